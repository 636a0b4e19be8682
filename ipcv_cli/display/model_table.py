"""The table of `ipcv models`, as plain text."""

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ipcv.text import visible
from ipcv_cli.display.render import magnitude

if TYPE_CHECKING:
    from ipcv.models.catalog import ListedModel, Listing

UNKNOWN_WIDTH = 200  # columns where stdout is no terminal: a line for each model
HEADINGS = ("", "params", "16 bit", "4 bit", "cached")
LEGEND = (
    "16 bit, 4 bit: memory of the weights alone, computed. Frames, activations and the key-value cache come on top. "
    "4 bit (--quant 4bit) is for the linear layers of the language model; the rest, experts too, has 16 bits.",
    "Tiny random weights: in the tests that every family passes. No published weights were run.",
)


def model_table(listing: "Listing") -> str:
    """A line for each model under the heading of its family, and a legend of the numbers."""
    titles = {family.family: f"{family.title} ({family.family})" for family in listing.families}
    rows: list[tuple[str, ...]] = [HEADINGS]
    for model in listing.models:
        group = "Bundled" if model.bundled else titles[model.family]
        heading = (f"{group}, tested with {model.tested_with}",)
        if heading not in rows:
            rows.append(heading)
        rows.append(_cells(model))
    width = shutil.get_terminal_size((UNKNOWN_WIDTH, 0)).columns
    names = max(len(row[0]) for row in rows if len(row) > 1)
    lines = [row[0] if len(row) == 1 else _aligned(row, names) for row in rows]
    if max(map(len, lines)) > width:
        lines = [part for row in rows for part in _stacked(row, width)]
    told = [part for text in LEGEND for part in textwrap.wrap(text, min(width, 78))]
    return "\n".join((*lines, "", *told, *_cache(listing), ""))


def _cells(model: "ListedModel") -> tuple[str, ...]:
    here = ""
    if model.cached:
        here = _short(model.cached.size, 1000, "B") + ("" if model.cached.path else " partial")
    return (
        f"  {model.name}",
        "" if model.parameters is None else _short(model.parameters, 1000, "").replace("G", "B"),
        *("" if size is None else _short(size, 1024, "B") for size in (model.bytes_16bit, model.bytes_4bit)),
        here,
    )


def _short(value: int, base: int, unit: str) -> str:
    """`magnitude` to three digits.

    >>> _short(73_405_560_320, 1000, ""), _short(2_473_469_312, 1024, "B")
    ('73.4 G', '2.30 GiB')
    """
    number, _, unit = magnitude(value, base, unit).partition(" ")
    digits = len(number.partition(".")[0])
    return f"{float(number):.{max(0, 3 - digits)}f} {unit}"


def _aligned(cells: tuple[str, ...], width: int) -> str:
    name, parameters, plain, quantised, here = cells
    return f"{name:{width}} {parameters:>6}  {plain:>8}  {quantised:>8}  {here}".rstrip()


def _stacked(row: tuple[str, ...], width: int) -> list[str]:
    """The lines of a row on a narrow terminal: what it is about, then its numbers."""
    name, *numbers = row
    told = [_aligned(("", *numbers), 8)] if any(numbers) else []
    return textwrap.wrap(name, width, subsequent_indent="  ") + told


def _cache(listing: "Listing") -> Iterator[str]:
    yield f"The cache is {visible(listing.cache)}."
    if listing.others:
        size = magnitude(listing.others_size, 1000, "B")
        what = "is also 1 repository" if listing.others == 1 else f"are also {listing.others} repositories"
        yield f"In it {what}, {size}, that ipcv cannot ask (`hf cache ls`)."
