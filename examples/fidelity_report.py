"""Writing a fidelity measurement as a table of plain text, and as a plot."""

from itertools import groupby
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

HEAD = """\
                                                 patch cosine           CLS  relative  encoder   CPU
rule               layer  stabilize   keep   mean   5 %  worst frame  cosine     error    FLOPs  time"""
LEGEND = """\
all against the plain model's features after the final norm. 5 %: of the patches are less alike than this; worst
  frame: the lowest mean of one; relative error: norm of all patches' differences over that of their features
paper: tokens that block layer - 1 changed most, rebuilt by the mean change of 10 neighbours; others: how tokens are
  chosen + how 4 neighbours are weighted, with the largest keep that costs at most the group's FLOPs
tuned: the best of layer 1, 2 and 3 with 0, 3 and all blocks stabilised, found on these clips
encoder FLOPs: share of the plain model's, choosing and rebuilding included. In rows of the paper's own keep they are
  those of the paper's code, which also computes queries and outputs of dropped tokens and throws them away; as run
  here, without that: {as_run}
CPU time: share of the plain model's, median over clips and repeats, of this implementation in all rows"""
COLOURS = {"coverage": "C0", "change": "C3", "uniform": "C2", "random": "C7"}


def table(stored: dict) -> str:
    """The block for what `fidelity.json` holds."""
    clips = ", ".join(stored["clips"])
    frames, seconds, side = (stored[key] for key in ("frames", "seconds", "side"))
    head = [
        f"$ {stored['command']}",
        f"commit of {stored['commit_date']}, {stored['minutes']} minutes on {stored['machine']}",
        "",
        f"DINOv2-small in float32; its features are within {stored['onnx_difference']:.0e} of the ONNX graph's",
        f"{clips}: {frames} frames of each over {seconds:g} s, {side} × {side} pixels",
        "",
        HEAD,
    ]
    groups = [f"at most {group}\n{lines}" for group, lines in _groups(stored)]
    as_run = ", ".join(f"{row['flops']:.3f}" for row in stored["rows"] if row["published_flops"] is not None)
    return "\n".join(("```text", *head, *groups, "", LEGEND.format(as_run=as_run), "```")) + "\n"


def _groups(stored: dict) -> list[tuple[str, str]]:
    """For each budget the lines of its settings."""
    by_group = groupby(stored["rows"], key=lambda row: row["group"])
    return [(group, "\n".join(line(row) for row in found)) for group, found in by_group]


def line(row: dict) -> str:
    """The table's line for one setting."""
    settings = row["settings"]
    return (
        f"  {row['rule']:17}{settings['layer']:>5}{settings['stabilize']:>11}{settings['keep']:7.3f}"
        f"{row['patch_cosine']:7.3f}{row['patch_cosine_p5']:6.2f}{row['patch_cosine_worst_frame']:13.3f}"
        f"{row['cls_cosine']:8.3f}{row['relative_error']:10.2f}{counted(row):9.3f}{row['cpu_time']:6.2f}"
    )


def counted(row: dict) -> float:
    """The share of FLOPs that a setting is held to."""
    share: float = row["flops"] if row["published_flops"] is None else row["published_flops"]
    return share


def plot(stored: dict, path: Path) -> None:
    """Write a picture of mean patch cosine against encoder FLOPs, one line per rule."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[dict]] = {}
    for row in stored["rows"]:
        unstable = " (stabilize=0)" if is_aside(row) else ""
        lines.setdefault(row["rule"] + unstable, []).append(row)
    for name, found in lines.items():
        settings = found[0]["settings"]
        axes.plot(
            [counted(row) for row in found],
            [row["patch_cosine"] for row in found],
            color="black" if name.startswith("paper") else COLOURS[settings["select"]],
            linestyle=_stroke(found[0]),
            marker="x" if is_aside(found[0]) else "os"[settings["blend"] == "mean"],
            label=name,
        )
    axes.set_xlabel("encoder FLOPs, share of the plain model's")
    axes.set_ylabel("mean patch cosine")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    with rc_context({"svg.hashsalt": "ipcv"}):  # the same numbers, the same file
        figure.savefig(path, metadata={"Date": None})


def is_aside(row: dict) -> bool:
    """Whether this is a setting of one budget only."""
    return row["settings"]["stabilize"] == 0 and "tuned" not in row["rule"]


def _stroke(row: dict) -> str:
    """Solid for the paper and for neighbours weighted by distance; a setting of one budget is no line."""
    if is_aside(row):
        return ""
    if "tuned" in row["rule"]:
        return "--"
    return "-" if row["rule"] == "paper" or row["settings"]["blend"] == "distance" else ":"
