"""A benchmark's report as tables of plain text, and as a plot."""

import io
import os
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipcv.text import visible
from ipcv_cli.exit import UsageError

if TYPE_CHECKING:
    from ipcv.benchmark.benchmark import Report
    from ipcv.benchmark.scoring import Interval

WIDTH = 118
UNSEEN = ("grey", "other")  # settings that do not show the clip have no place among costs
PLOT_ENDINGS = (".png", ".svg")


def report_table(report: "Report") -> str:
    """Two tables, accuracy and costs per setting and accuracy per kind of question, and what their columns mean."""
    model = f"{report.model.name} on {report.model.device}, {report.model.quantization or report.model.dtype}"
    first = visible(report.scores[0].name)
    legend = (
        f"right: score of the answers; gained: against {first}, on the same questions; both with 95 % intervals\n"
        f"changed: answers other than {first}'s; time (measured) and FLOPs (computed): shares of {first}'s\n"
        "constant: the best way to answer without looking: always the same answer, or always the first, second …"
    )
    parts = (visible(f"{report.questions} questions, {model}"), _costs(report), _kinds(report), legend)
    console = Console(width=WIDTH, color_system=None, markup=False, emoji=False, highlight=False, file=io.StringIO())
    with console.capture() as text:
        for part in parts:
            console.print(part)
            console.print()
    return "\n".join(row.rstrip() for row in text.get().splitlines()).rstrip() + "\n"


def _costs(report: "Report") -> Table:
    """A line per setting: accuracy, paired difference, changed answers, shares of time and FLOPs."""
    first = report.scores[0]
    table = _table("")
    for heading in ("right, in %", "gained", "changed", "encode FLOPs", "time", "prefill FLOPs", "time"):
        table.add_column(heading, justify="right")
    for score in report.scores:
        shares = [
            share
            for stage in ("encode", "prefill")
            for share in (score.flops[stage] / first.flops[stage], score.seconds[stage] / first.seconds[stage])
        ]
        table.add_row(
            visible(score.name),
            f"{score.accuracy:.1%} {_interval(score.interval)}".replace("%", ""),
            f"{100 * score.difference:+.1f} {_interval(score.difference_interval, '+')}"
            if score.difference_interval
            else "",
            "" if score is first else f"{1 - score.same_answers:.1%}",
            *(f"{share:.2f}" for share in shares),
        )
    return table


def _kinds(report: "Report") -> Table:
    """A line per setting, a column per kind of question."""
    table = _table("right, in %")
    for heading in (*report.by_kind, "all"):
        table.add_column(heading, justify="right")
    table.add_row("questions", *map(str, report.by_kind.values()), str(report.questions))
    constant = sum(report.constant[kind] * count for kind, count in report.by_kind.items()) / report.questions
    rows = [("constant", report.constant, constant)]
    rows += [(visible(score.name), score.by_kind, score.accuracy) for score in report.scores]
    for name, shares, mean in rows:
        table.add_row(name, *(f"{100 * share:.1f}" for share in (*(shares[kind] for kind in report.by_kind), mean)))
    return table


def _table(title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column(Text(title, overflow="fold"))
    return table


def _interval(interval: "Interval", sign: str = "") -> str:
    return f"({100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f})"


def check_plot(path: Path) -> None:
    """Find out before the work begins what would keep `plot` from writing to `path`.

    Raises `UsageError` for an ending that is no picture's, for what cannot be written to, and without matplotlib.
    """
    name = visible(str(path))
    if path.suffix.lower() not in PLOT_ENDINGS:
        raise UsageError(f"--plot {name} must end in {' or '.join(PLOT_ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {name}: there is no such folder")
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"--plot {name} cannot be written to")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'ipcv[plot]'")


def plot(report: "Report", path: Path) -> None:
    """Write a picture of accuracy against the encoder's FLOPs, a point with its interval for every setting."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    first = report.scores[0]
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shown = [score for score in report.scores if score.settings.shown not in UNSEEN]
    for score, marker in zip(shown, cycle("osD^vP*X"), strict=False):
        share = score.flops["encode"] / first.flops["encode"]
        spread = [[score.accuracy - score.interval.low], [score.interval.high - score.accuracy]]
        label = visible(score.name).replace("$", r"\$").removeprefix("_")  # what matplotlib would take for commands
        axes.errorbar(share, score.accuracy, yerr=spread, fmt=marker, capsize=3, alpha=0.85, label=label)
    axes.set_xlabel("encoder FLOPs, share of " + visible(first.name))
    axes.set_ylabel(f"right, of {report.questions} questions")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    with rc_context({"svg.hashsalt": "ipcv"}):  # the same numbers, the same file
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
