"""Drawing shapes, boxes and letters: the share of each pixel that they cover. Coordinates are frame fractions."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Cover = tuple[slice, slice, Floats]  # rows, columns, and the covered share (0 to 1) of each of their pixels


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 1


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.89


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.maximum(y, np.abs(x) * 0.866 - y * 0.5) - 0.72


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 1.1, y - 0.4), np.maximum(y - 1.1, x - 0.4))


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.8) - 0.28


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {  # signed distance to the outline of a shape of radius one
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}
REACH = {"circle": 1.0, "square": 1.26, "triangle": 1.44, "cross": 1.18, "ring": 1.08}  # farthest point of radius one

GLYPHS = {  # seven rows of five pixels, a row a digit to base 32; letters that are easily mistaken are left out
    "A": "ehhvhhh", "C": "ehggghe", "E": "vgguggv", "F": "vgguggg", "H": "hhhvhhh",
    "J": "72222ic", "K": "hikokih", "L": "ggggggv", "N": "hpllljh", "P": "uhhuggg", "T": "v444444",
    "U": "hhhhhhe", "X": "hha4ahh", "Y": "hha4444", "2": "eh168gv", "3": "u11e11u", "4": "26aiv22",
    "6": "68guhhe", "7": "v124888", "9": "ehhf12c",
}  # fmt: skip
STROKE = 0.018  # width and height of a glyph's pixel
BORDER = 0.024  # of a tag, around its code


def shape_cover(shape: str, centre: tuple[float, float], radius: float, tilt: float, size: int) -> Cover:
    """Compute what a shape of `radius`, turned by `tilt` radians, covers of a frame of `size` × `size` pixels."""
    reach = 1.5 * radius
    rows, columns = (
        slice(max(0, int((c - reach) * size)), max(0, min(size, int((c + reach) * size) + 2))) for c in centre[::-1]
    )
    x = ((np.arange(columns.start, columns.stop) + 0.5) / size - centre[0])[None, :] / radius
    y = ((np.arange(rows.start, rows.stop) + 0.5) / size - centre[1])[:, None] / radius
    cos, sin = np.cos(tilt), np.sin(tilt)
    distance = SHAPES[shape](cos * x + sin * y, cos * y - sin * x)
    return rows, columns, np.clip(0.5 - distance * radius * size, 0, 1).astype(np.float32)


def box_cover(centre: tuple[float, float], half: tuple[float, float], size: int) -> Cover:
    """Compute what an upright box covers; `half` is half its width and half its height."""
    return _bitmap_cover(np.ones((1, 1), np.float32), centre, half, size)


def code_cover(code: str, centre: tuple[float, float], size: int) -> Cover:
    """Compute what the letters and digits of `code` cover, written in a line around `centre`."""
    width, height = code_half(code)
    return _bitmap_cover(_bitmap(code), centre, (width, height), size)


def code_half(code: str) -> tuple[float, float]:
    """Half the width and half the height of a code's ink."""
    return (6 * len(code) - 1) * STROKE / 2, 7 * STROKE / 2


def enlarge(grid: Floats, size: int) -> Floats:
    """Interpolate a grid [g, g, 3] linearly to [size, size, 3]."""
    cells = len(grid)
    at = np.linspace(0, cells - 1, size)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)
    for _ in range(2):  # enlarge the first axis, swap the axes, twice
        grid = (weights @ grid.reshape(cells, -1)).reshape(size, -1, 3).swapaxes(0, 1)
    return grid


def paint(frame: Floats, cover: Cover, rgb: tuple[float, float, float]) -> None:
    """Paint `rgb` over a float32 frame [H, W, 3], in place."""
    rows, columns, share = cover
    patch = frame[rows, columns]
    patch += share[..., None] * (np.asarray(rgb, np.float32) - patch)


def add_noise(frame: Floats, deviation: float, time: float) -> None:
    """Add a sensor's noise to a float32 frame, in place; equal times, in milliseconds, have equal noise."""
    if deviation:
        frame += deviation * np.random.default_rng(round(1000 * time)).standard_normal(frame.shape, np.float32)


def _bitmap(code: str) -> Floats:
    """Draw a code as a bitmap [7, 6 n - 1]: glyphs with a pixel of space between them."""
    rows = [
        [int(GLYPHS[glyph][row], 32) >> bit & 1 for glyph in code for bit in (5, 4, 3, 2, 1, 0)] for row in range(7)
    ]
    return np.array(rows, np.float32)[:, 1:]


def _bitmap_cover(bitmap: Floats, centre: tuple[float, float], half: tuple[float, float], size: int) -> Cover:
    """Compute how much of each pixel the ink of `bitmap` covers when it is stretched over a box."""
    columns, across = _overlaps(bitmap.shape[1], centre[0], half[0], size)
    rows, down = _overlaps(bitmap.shape[0], centre[1], half[1], size)
    return rows, columns, down @ bitmap @ across.T


def _overlaps(cells: int, centre: float, half: float, size: int) -> tuple[slice, Floats]:
    """Find the pixels along an axis that a row of cells touches, and how much of each pixel each cell covers."""
    edges = np.linspace((centre - half) * size, (centre + half) * size, cells + 1)
    pixels = slice(max(0, int(edges[0])), max(0, min(size, int(edges[-1]) + 1)))
    left = np.arange(pixels.start, pixels.stop)[:, None]
    return pixels, np.clip(np.minimum(left + 1, edges[1:]) - np.maximum(left, edges[:-1]), 0, 1).astype(np.float32)
