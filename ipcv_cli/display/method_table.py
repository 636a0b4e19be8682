"""The methods that save work, as a table of plain text, and one of them in full."""

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ipcv.compression.catalog import ListedMethod, MethodListing

WIDTH = 100
PLACES = {
    "compressor": "In the vision encoder's blocks (--method)",
    "reducer": "Between encoder and language model (--reducer)",
    "pruner": "In the language model's layers (--llm-pruner)",
}
LEGEND = "`ipcv methods NAME` says what a method needs, where it departs from its paper, and why it runs where it does."


def method_table(listing: "MethodListing") -> str:
    """A line for each method, under the heading of its place."""
    lines: list[str] = []
    for method in listing.methods:
        heading = PLACES[method.place]
        if heading not in lines:
            lines.append(heading)
        mark = "  (default)" if method.default else ""
        lines.append(f"  {method.name:10} {method.method:8}  arXiv {method.arxiv}  {_families(method)}{mark}")
    return "\n".join((*lines, "", LEGEND, ""))


def _families(method: "ListedMethod") -> str:
    """On which families a method runs, in few words."""
    if not method.refused:
        return "every family"
    if len(method.refused) <= len(method.families):
        return f"every family but {', '.join(method.refused)}"
    return ", ".join(method.families) or "no family"


def method_page(method: "ListedMethod") -> str:
    """All that is known about a method."""
    settings = ", ".join(f"{name}={value!r}" for name, value in method.settings.items())
    rows = [
        ("does", method.summary),
        ("place", PLACES[method.place] + (", the default" if method.default else "")),
        ("paper", f"https://arxiv.org/abs/{method.arxiv}"),
        ("in Python", f"ipcv.{method.method}"),
        ("settings", settings),
        ("needs", "; ".join(method.needs) or "nothing that not every family has"),
        ("departs", method.departures or "nowhere from its paper that is known"),
        ("runs on", ", ".join(method.families) or "no family"),
    ]
    reasons: dict[str, list[str]] = {}
    for family, reason in method.refused.items():
        reasons.setdefault(reason.split(f"{family!r}: ")[-1], []).append(family)
    rows += [("not on", f"{', '.join(families)}: {reason}") for reason, families in reasons.items()]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=11)
    grid.add_column()
    for heading, told in rows:
        grid.add_row(f"  {heading}", told)
    console = Console(width=WIDTH, color_system=None, markup=False, emoji=False, highlight=False, file=io.StringIO())
    with console.capture() as text:
        console.print(method.name, grid, sep="\n")
    return "\n".join(line.rstrip() for line in text.get().splitlines()) + "\n"
