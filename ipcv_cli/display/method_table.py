"""The methods that save work, as a table of plain text, and one of them in full."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table

from ipcv.compression.registry import DEFAULTS

if TYPE_CHECKING:
    from ipcv.compression.catalog import ListedMethod, MethodListing
    from ipcv.compression.method import Place

WIDTH = 100  # at most: narrower on a narrower terminal
PLACES = {
    "compressor": "In the vision encoder's blocks (--method)",
    "reducer": "Between encoder and language model (--reducer)",
    "pruner": "In the language model's layers (--llm-pruner)",
}
LEGEND = "`ipcv methods NAME` says what a method needs, where it departs from its paper, and why it runs where it does."


def method_table(listing: "MethodListing") -> str:
    """Each method with its purpose and its families, under the heading of its place."""
    tables: dict[str, Table] = {}
    for method in listing.methods:
        mark = " The default." if method.default else ""
        table = tables.setdefault(_heading(method.place), _grid())
        table.add_row(f"  {method.name}", f"{method.summary}\nRuns on {_families(method)}.{mark}")
    return _text(*(part for table in tables.items() for part in table), "", LEGEND)


def _heading(place: "Place") -> str:
    """A place, and whether anything is done there unless asked for."""
    return PLACES[place] + ("" if DEFAULTS[place] else ", by default none")


def _families(method: "ListedMethod") -> str:
    """On which families a method runs, in few words."""
    if not method.refused:
        return "every family"
    if len(method.refused) <= len(method.families):
        return f"every family but {', '.join(method.refused)}"
    return ", ".join(method.families) or "no family"


def method_page(method: "ListedMethod") -> str:
    """All that is known about a method."""
    rows = [
        ("does", method.summary),
        ("place", PLACES[method.place] + (", the default" if method.default else "")),
        ("paper", f"https://arxiv.org/abs/{method.arxiv}" if method.arxiv else "none"),
        ("in Python", f"ipcv.{method.method}()"),
        ("settings", _assigned(method.settings) if method.settings else "none"),
        ("needs", "; ".join(method.needs) or "nothing that not every family has"),
    ]
    if method.presets:
        rows.insert(5, ("presets", "; ".join(f"{name}: {_assigned(each)}" for name, each in method.presets.items())))
    if method.arxiv:
        rows.append(("departs", method.departures or "nowhere from its paper that is known"))
    rows.append(("runs on", ", ".join(method.families) or "no family"))
    reasons: dict[str, list[str]] = {}
    for family, reason in method.refused.items():
        reasons.setdefault(reason.split(f"{family!r}: ")[-1], []).append(family)
    rows += [("not on", f"{', '.join(families)}: {reason}") for reason, families in reasons.items()]
    grid = _grid()
    for heading, told in rows:
        grid.add_row(f"  {heading}", told)
    return _text(method.name, grid)


def _assigned(settings: Mapping[str, Any]) -> str:
    """Settings as Python writes them."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items()) or "these settings"


def _grid() -> Table:
    """A table of a narrow column of names and one of text."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=11, no_wrap=True)
    grid.add_column()
    return grid


def _text(*parts: RenderableType) -> str:
    """All `parts` as plain text, each on lines of its own, wrapped at the terminal's width."""
    console = Console(color_system=None, markup=False, emoji=False, highlight=False, file=io.StringIO())
    console.width = min(WIDTH, console.width)
    with console.capture() as text:
        console.print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in text.get().splitlines()) + "\n"
