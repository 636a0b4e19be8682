"""A procedural video world with exact ground truth: coloured shapes that move over a textured background.

One number, the seed, fixes a scene; a scene renders at any moment and any size, so the same motion can be sampled at
2 frames per second for a model or written at 16 frames per second to a real file. Coordinates and speeds are in
fractions of the frame's side and per second, with y pointing down.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

TRAINING_SEEDS = range(0, 2**31)  # the demo model was trained on scenes from this range only
HELD_OUT_SEEDS = range(2**31, 2**32)  # and is measured on scenes from this one
SECONDS = 4.0  # every object stays whole inside the frame for this long

COLOURS = {
    "red": (215, 40, 40),
    "yellow": (235, 210, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "purple": (150, 50, 180),
    "white": (240, 240, 240),
}
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
MOST = 3  # objects in a scene

Floats = NDArray[np.floating]


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 1


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.89


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.maximum(y, np.abs(x) * 0.866 - y * 0.5) - 0.72


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {  # signed distance to the outline of a shape of radius one
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
}
REACH = {"circle": 1.0, "square": 1.26, "triangle": 1.44}  # farthest point of a shape of radius one


@dataclass(frozen=True)
class Thing:
    """One object of a scene and its motion."""

    colour: str
    shape: str
    motion: str
    rgb: tuple[float, float, float]  # the shade of the colour that is drawn, 0 to 255
    radius: float
    tilt: float  # radians
    speed: float
    start: tuple[float, float]  # centre at time zero

    def centre(self, time: float) -> tuple[float, float]:
        """Where the object's centre is at `time` seconds."""
        dx, dy = MOTIONS[self.motion]
        return self.start[0] + dx * self.speed * time, self.start[1] + dy * self.speed * time

    def coverage(self, time: float, size: int) -> tuple[slice, slice, Floats]:
        """Rows, columns and the covered share (0 to 1) of each pixel of a `size` × `size` frame, around the object."""
        centre_x, centre_y = self.centre(time)
        reach = 1.5 * self.radius
        columns, rows = (
            slice(max(0, int((c - reach) * size)), max(0, min(size, int((c + reach) * size) + 2)))
            for c in (centre_x, centre_y)
        )
        x = ((np.arange(columns.start, columns.stop) + 0.5) / size - centre_x)[None, :] / self.radius
        y = ((np.arange(rows.start, rows.stop) + 0.5) / size - centre_y)[:, None] / self.radius
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        distance = SHAPES[self.shape](cos * x + sin * y, cos * y - sin * x)
        return rows, columns, np.clip(0.5 - distance * self.radius * size, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Clip:
    """Rendered frames of a scene."""

    frames: NDArray[np.uint8]  # [T, H, W, 3]
    times: tuple[float, ...]  # seconds, one per frame
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Scene:
    """Everything there is to see: objects in front of a background."""

    things: tuple[Thing, ...]
    textures: tuple[Floats, ...]  # [g, g, 3] grids that are enlarged to the frame and summed: the background

    def render(self, times: Iterable[float], size: int) -> Clip:
        """Frames of `size` × `size` pixels at `times` seconds."""
        times = tuple(times)
        background = sum(_enlarge(texture, size) for texture in self.textures)
        frames = np.repeat(np.asarray(background)[None], len(times), axis=0)
        for frame, time in zip(frames, times, strict=True):
            for thing in self.things:
                rows, columns, cover = thing.coverage(time, size)
                patch = frame[rows, columns]
                patch += cover[..., None] * (np.asarray(thing.rgb, np.float32) - patch)
        return Clip(np.clip(frames + 0.5, 0, 255).astype(np.uint8), times, self.things)


def make_scene(seed: int) -> Scene:
    """The scene of a seed: one to three objects of different colours that do not touch."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, MOST + 1))
    colours = rng.choice(list(COLOURS), count, replace=False).tolist()
    shapes = rng.choice(list(SHAPES), count).tolist()
    motions = rng.choice(list(MOTIONS), count).tolist()
    while (placed := _place(rng, motions, shapes)) is None:
        pass
    radii, speeds, starts = placed
    things = tuple(
        Thing(
            colour=colours[i],
            shape=shapes[i],
            motion=motions[i],
            rgb=tuple(np.clip(np.array(COLOURS[colours[i]]) * rng.uniform(0.85, 1.05) + rng.normal(0, 8, 3), 0, 255)),
            radius=float(radii[i]),
            tilt=float(rng.uniform(-0.35, 0.35)),
            speed=float(speeds[i]),
            start=(float(starts[i, 0]), float(starts[i, 1])),
        )
        for i in range(count)
    )
    level = rng.uniform(35, 115) + rng.uniform(-22, 22, 3)
    textures = [level.reshape(1, 1, 3).astype(np.float32)]
    for cells, amplitude in ((2, 25), (int(rng.integers(3, 9)), 22), (int(rng.integers(12, 49)), 12)):
        grey = rng.normal(size=(cells, cells, 1)) * rng.uniform(0, amplitude)
        texture = grey + rng.normal(size=(cells, cells, 3)) * rng.uniform(0, amplitude / 3)
        textures.append(texture.astype(np.float32))
    return Scene(things, tuple(textures))


def make_clip(seed: int, *, size: int = 112, fps: float = 2, seconds: float = SECONDS) -> Clip:
    """`seconds` of the scene of `seed`, from time zero, as `size` × `size` frames at `fps` frames per second.

    >>> make_clip(7).frames.shape
    (8, 112, 112, 3)
    """
    return make_scene(seed).render((i / fps for i in range(round(seconds * fps))), size)


def write_clip(path: Path | str, clip: Clip) -> None:
    """Write evenly spaced frames as an H.264 mp4 file at their own rate; yuv420p, so their side has to be even."""
    import av  # only this function needs it

    rate = round(1 / (clip.times[1] - clip.times[0]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _enlarge(grid: Floats, size: int) -> Floats:
    """A [g, g, 3] grid interpolated linearly to [size, size, 3]."""
    cells = len(grid)
    at = np.linspace(0, cells - 1, size)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)
    for _ in range(2):  # enlarge the first axis, swap the two, and the same again
        grid = (weights @ grid.reshape(cells, -1)).reshape(size, -1, 3).swapaxes(0, 1)
    return grid


def _place(rng: Generator, motions: list[str], shapes: list[str]) -> tuple[Floats, Floats, Floats] | None:
    """Radii, speeds and starting points that keep the objects inside the frame and apart; None if none were found."""
    count = len(motions)
    speeds = rng.uniform(0.08, 0.14, count)
    radii = rng.uniform(0.11, 0.17, count)
    travel = np.array([MOTIONS[motion] for motion in motions]) * (speeds * SECONDS)[:, None]
    margin = (radii * [REACH[shape] for shape in shapes])[:, None]
    low = margin - np.minimum(travel, 0)
    room = 1 - margin - np.maximum(travel, 0) - low
    starts = low + rng.uniform(size=(100, count, 2)) * room
    at = starts[:, None] + travel * np.linspace(0, 1, 9)[:, None, None]  # [100 tries, 9 moments, count, 2]
    gaps = np.linalg.norm(at[:, :, :, None] - at[:, :, None], axis=-1)
    touching = gaps < 1.2 * (radii[:, None] + radii) * ~np.eye(count, dtype=bool)
    free = np.flatnonzero(~touching.any(axis=(1, 2, 3)))
    return (radii, speeds, starts[free[0]]) if len(free) else None
