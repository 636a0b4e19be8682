"""Blurred and blotchy clips not of the demo world, from which the model learns to say that it knows nothing."""

import numpy as np
from numpy.random import Generator

from ipcv.world.drawing import SHAPES, enlarge, paint, shape_cover


def wild_clip(rng: Generator, frames: int, size: int) -> np.ndarray:
    """`frames` frames [frames, size, size, 3] of a camera that moves over a picture of no particular thing."""
    wide = size + int(rng.integers(size // 8, size))
    picture = _picture(rng, wide)
    start, end = rng.integers(0, wide - size + 1, (2, 2))
    ways = np.linspace(start, end, frames).round().astype(int) + rng.integers(0, 3, (frames, 2))
    light = rng.uniform(0.9, 1.1, frames) ** int(rng.integers(0, 2))
    cuts = sorted(rng.integers(1, frames, int(rng.integers(0, 3))).tolist())
    clips = []
    for index, (top, left) in enumerate(np.clip(ways, 0, wide - size)):
        if index in cuts:
            picture = _picture(rng, wide)
        clips.append(picture[top : top + size, left : left + size] * light[index])
    return np.clip(np.stack(clips), 0, 255).astype(np.uint8)


def _picture(rng: Generator, size: int) -> np.ndarray:
    """Coloured noise in octaves, some of it with hard edges, and blotches with soft ones."""
    slope, vivid = rng.uniform(0.4, 1.3), rng.uniform(0.1, 0.8)
    octaves = [2**k + int(rng.integers(0, 2)) for k in range(1, 7)]
    picture = np.full((size, size, 3), rng.uniform(40, 200), np.float32)
    for cells in octaves:
        grey = rng.normal(size=(cells, cells, 1))
        colour = rng.normal(size=(cells, cells, 3))
        layer = enlarge(((1 - vivid) * grey + vivid * colour).astype(np.float32), size)
        if rng.random() < 0.35:  # edges, as things have that stand before others
            layer = np.tanh(layer * rng.uniform(3, 20)) * 0.7
        picture += layer * 110 * cells**-slope
    for _ in range(int(rng.integers(0, 12))):
        x, y = rng.uniform(0, 1, 2)
        shape = str(rng.choice(list(SHAPES)))
        rows, columns, share = shape_cover(shape, (x, y), float(rng.uniform(0.05, 0.4)), float(rng.uniform(0, 6)), size)
        texture = picture[rows, columns].mean((0, 1)) + rng.normal(0, 40, 3)
        paint(picture, (rows, columns, share * float(rng.uniform(0.15, 0.5))), tuple(texture))
    blur = int(rng.integers(0, 3))
    for _ in range(blur):
        picture = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1) + np.roll(picture, (1, 1), (0, 1))) / 4
    return np.clip(picture, 0, 255)
