"""A benchmark's report as tables of plain text, and as a plot."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    from ipcv.benchmark.report import Measured, Report, Score

WIDTH = 118  # at most: narrower on a narrower terminal
NAME = 17  # characters for the names of settings, at least; longer ones take two lines
UNSEEN = ("grey", "other")  # settings that do not show the clip have no place among costs
PLOT_ENDINGS = (".png", ".svg")


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    heading: str  # on one line or two
    cells: list[str]

    @property
    def width(self) -> int:
        """The characters of the widest cell."""
        return max(map(len, (*self.heading.split("\n"), *self.cells)))


def report_table(report: "Report", width: int | None = None) -> str:
    """Tables of accuracy and costs, also by camera, and of accuracy by kind of question, and what their columns mean.

    They are split where they are wider than `width`; None: the terminal's, or `WIDTH` if that is less.
    """
    console = Console(color_system=None, markup=False, emoji=False, highlight=False, file=io.StringIO())
    console.width = min(WIDTH, console.width) if width is None else width
    model = f"{report.model.name} on {report.model.device}, {report.model.quantization or report.model.dtype}"
    names = [shown_name(score) for score in report.scores]
    first = visible(report.scores[0].name)
    parts = (
        visible(f"{report.questions} questions, {model}"),
        *_tables("", names, _costs(report.scores), console.width),
        *_halves(report, names, console.width),
        *_tables("right, in %", ["questions", "constant", *names], _kinds(report), console.width),
        f"right: score of the answers; gained: against {first}, on the same questions; both with 95 % intervals",
        f"changed: answers other than {first}'s; time (measured) and FLOPs (computed): shares of {first}'s",
        "constant: the best way to answer without looking: always the same answer, or always the first, second …",
    )
    with console.capture() as text:
        for part in parts:
            console.print(part)
            if not isinstance(part, str) or part is parts[0]:
                console.print()
    return "\n".join(row.rstrip() for row in text.get().splitlines()).rstrip() + "\n"


def shown_name(score: "Score") -> str:
    """The name of a setting, marked if `ipcv ask` without options answers like this."""
    return visible(score.name) + (" (default)" if score.default else "")


def _costs(measured: "Sequence[Measured]") -> list[Column]:
    """Columns with a cell per setting: accuracy, paired difference, changed answers, shares of FLOPs and time."""
    first = measured[0]
    columns = [
        Column("right, in %", [_right(each) for each in measured]),
        Column("gained", [_gained(each) for each in measured]),
        Column("changed", ["" if each is first else f"{1 - each.same_answers:.1%}" for each in measured]),
    ]
    for stage in ("encode", "prefill"):
        for what in ("flops", "seconds"):
            shares = [getattr(each, what)[stage] / getattr(first, what)[stage] for each in measured]
            heading = f"{stage}\n{'FLOPs' if what == 'flops' else 'time'}"
            columns.append(Column(heading, [f"{share:.2f}" for share in shares]))
    return columns


def _halves(report: "Report", names: list[str], width: int) -> Iterator[Table]:
    """For each kind of camera, if there are both, its accuracy, costs and visual tokens in the prompt."""
    for camera in report.by_camera if len(report.by_camera) > 1 else ():
        halves = [score.by_camera[camera] for score in report.scores]
        tokens = Column("visual\ntokens", [f"{half.visual_tokens:.0f}" for half in halves])
        yield from _tables(f"{camera} camera", names, [*_costs(halves), tokens], width)


def _kinds(report: "Report") -> list[Column]:
    """A column per kind of question: how many there were, the constant score, and a cell per setting."""
    constant = sum(report.constant[kind] * count for kind, count in report.by_kind.items()) / report.questions
    columns = [
        Column(kind, [str(count), *_percent(report.constant[kind], *(each.by_kind[kind] for each in report.scores))])
        for kind, count in report.by_kind.items()
    ]
    return [*columns, Column("all", [str(report.questions), *_percent(constant, *(s.accuracy for s in report.scores))])]


def _tables(title: str, names: list[str], columns: list[Column], width: int) -> Iterator[Table]:
    """Tables that have `names` in their first column and as many of `columns` as fit into `width`, one at least."""
    first = min(max(map(len, (title, *names))), max(NAME, width // 4))
    while columns:
        used, count = first, 0
        while count < len(columns) and (not count or used + 2 + columns[count].width <= width):
            used, count = used + 2 + columns[count].width, count + 1
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
        table.add_column(Text(title, overflow="fold"), max_width=first, overflow="fold")
        for column in columns[:count]:
            table.add_column(column.heading, justify="right", no_wrap=True)
        for row in zip(names, *(column.cells for column in columns[:count]), strict=True):
            table.add_row(*row)
        yield table
        columns = columns[count:]


def _percent(*shares: float) -> Iterator[str]:
    return (f"{100 * share:.1f}" for share in shares)


def _right(score: "Measured") -> str:
    interval = score.interval
    return f"{100 * score.accuracy:.1f} ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def _gained(score: "Measured") -> str:
    if not (interval := score.difference_interval):
        return ""
    return f"{100 * score.difference:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


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
        label = shown_name(score).replace("$", r"\$").removeprefix("_")  # what matplotlib would take for commands
        axes.errorbar(share, score.accuracy, yerr=spread, fmt=marker, capsize=3, alpha=0.85, label=label)
    axes.set_xlabel("encoder FLOPs, share of " + visible(first.name))
    axes.set_ylabel(f"right, of {report.questions} questions")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    with rc_context({"svg.hashsalt": "ipcv"}):  # the same numbers, the same file
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
