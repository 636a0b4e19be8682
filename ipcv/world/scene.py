"""A scene of the demo world: coloured objects and tags before a background, filmed by a camera, all of it known.

One number, the seed, fixes a scene; a scene renders at any moment and any size, so the same motion can be sampled at
2 frames per second for a model or written at 16 frames per second to a real file. Coordinates and speeds are in
fractions of the frame's side and per second, with y pointing down. Motion is told against the background: the camera
may pan and shake.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ipcv.world.camera import Camera
from ipcv.world.drawing import (
    BORDER,
    REACH,
    Cover,
    Floats,
    add_noise,
    box_cover,
    code_cover,
    code_half,
    enlarge,
    paint,
    shape_cover,
)

TRAINING_SEEDS = range(0, 2**31)  # the demo model was trained on scenes from this range only
HELD_OUT_SEEDS = range(2**31, 2**32)  # and is measured on scenes from this one
FPS = 2.0  # frames per second of a clip, unless asked for otherwise
MARGIN = 0.13  # of background beyond each edge of the frame: as far as the camera moves

COLOURS = {
    "red": (215, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (235, 215, 45),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "purple": (150, 50, 180),
    "pink": (245, 135, 190),
    "white": (240, 240, 240),
}
SIZES = {"small": (0.055, 0.07), "medium": (0.095, 0.115), "large": (0.155, 0.18)}  # radius, from and to
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
TAGS = {"white": ((235.0, 235.0, 235.0), (20.0, 20.0, 20.0)), "black": ((20.0, 20.0, 20.0), (235.0, 235.0, 235.0))}
GROWTH = 1.8  # how many times as large a thing becomes that grows
GROWING = 1.0  # seconds that it takes

EventName = Literal["appears", "disappears", "changes colour", "bounces", "grows"]


@dataclass(frozen=True, kw_only=True)
class SceneEvent:
    """The one thing that happens to an object."""

    name: EventName
    time: float  # seconds; of growing, its middle
    colour: str = ""  # the new one, where the colour changes
    rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)  # its shade


@dataclass(frozen=True, kw_only=True)
class Path2D:
    """A straight way at constant speed, back again where it bounces."""

    motion: str
    speed: float
    start: tuple[float, float]  # centre at time zero
    bounce: float = float("inf")  # when it turns round, in seconds

    def at(self, time: float) -> tuple[float, float]:
        """The centre at `time` seconds, before the camera moves it."""
        dx, dy = MOTIONS[self.motion]
        way = self.speed * (time if time < self.bounce else 2 * self.bounce - time)
        return self.start[0] + dx * way, self.start[1] + dy * way


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene: what it is, where it goes, what happens to it."""

    colour: str
    shape: str
    size: str
    rgb: tuple[float, float, float]  # the shade of the colour that is drawn, 0 to 255
    radius: float
    tilt: float  # radians
    path: Path2D
    event: SceneEvent | None = None

    @property
    def motion(self) -> str:
        """The direction before it bounces."""
        return self.path.motion

    def happens(self, name: EventName) -> bool:
        """Whether the event `name` happens to it."""
        return self.event is not None and self.event.name == name

    def is_there(self, time: float) -> bool:
        """Whether it is in the scene at `time` seconds."""
        if self.event is None:
            return True
        return not (
            (self.event.name == "appears" and time < self.event.time)
            or (self.event.name == "disappears" and time >= self.event.time)
        )

    def rgb_at(self, time: float) -> tuple[float, float, float]:
        """The shade at `time` seconds."""
        changed = self.event is not None and self.event.name == "changes colour" and time >= self.event.time
        return self.event.rgb if self.event and changed else self.rgb

    def radius_at(self, time: float) -> float:
        """The radius at `time` seconds."""
        if self.event is None or self.event.name != "grows":
            return self.radius
        share = min(max((time - self.event.time) / GROWING + 0.5, 0.0), 1.0)
        return self.radius * (1 + (GROWTH - 1) * share)

    def half(self) -> tuple[float, float]:
        """Half the width and half the height that it can take at most."""
        reach = self.radius * REACH[self.shape] * (GROWTH if self.happens("grows") else 1)
        return reach, reach


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A moving label with a code of large letters or digits."""

    colour: str  # of its ground
    code: str
    path: Path2D

    def half(self) -> tuple[float, float]:
        """Half its width and half its height."""
        width, height = code_half(self.code)
        return width + BORDER, height + BORDER


@dataclass(frozen=True, kw_only=True)
class Pillar:
    """An upright bar in front of the objects, behind the tags."""

    rgb: tuple[float, float, float]
    path: Path2D
    width: float

    def half(self) -> tuple[float, float]:
        """Half its width, and half its height: from edge to edge."""
        return self.width / 2, 1.0


@dataclass(frozen=True, kw_only=True)
class SceneClip:
    """Rendered frames of a scene."""

    frames: NDArray[np.uint8]  # [T, H, W, 3]
    times: tuple[float, ...]  # seconds, one per frame


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything there is to see."""

    seconds: float
    size: int  # pixels per side of its clips, unless asked for otherwise
    things: tuple[Thing, ...]
    tags: tuple[Tag, ...]
    pillar: Pillar | None
    camera: Camera
    textures: tuple[Floats, ...]  # [g, g, 3] grids that are enlarged to the background and summed
    blots: tuple[Thing, ...]  # grey distractors that lie on the background; nobody asks about them

    def render(self, times: Iterable[float], size: int) -> SceneClip:
        """Frames of `size` × `size` pixels at `times` seconds."""
        times = tuple(times)
        margin = round(MARGIN * size)
        background = self._background(size, margin)
        frames = np.empty((len(times), size, size, 3), np.uint8)
        for index, time in enumerate(times):
            shift = self.shift(time, size)
            left, top = (margin - round(s * size) for s in shift)
            frame = background[top : top + size, left : left + size].copy()
            for item, cover in self.covers(time, shift, size):
                if isinstance(item, Tag):
                    paint_tag(frame, item, time, shift)
                else:
                    paint(frame, cover, item.rgb_at(time) if isinstance(item, Thing) else item.rgb)
            add_noise(frame, self.camera.noise, time)
            frames[index] = np.clip(frame + 0.5, 0, 255)
        return SceneClip(frames=frames, times=times)

    def seen(self, thing: Thing) -> list[float]:
        """List the moments of the scene's clip, at `FPS`, at which a thing is there."""
        return [time for time in np.arange(0, self.seconds, 1 / FPS).tolist() if thing.is_there(time)]

    def shift(self, time: float, size: int) -> tuple[float, float]:
        """Round the camera's shift at `time` to whole pixels of a frame; the result is a fraction of the frame."""
        x, y = (round(s * size) / size for s in self.camera.at(time))
        return x, y

    def _background(self, size: int, margin: int) -> Floats:
        wide = size + 2 * margin
        ground = np.array(sum(enlarge(texture, wide) for texture in self.textures))
        for blot in self.blots:
            x, y = ((margin + c * size) / wide for c in blot.path.start)
            paint(ground, shape_cover(blot.shape, (x, y), blot.radius * size / wide, blot.tilt, wide), blot.rgb)
        return ground

    def covers(
        self, time: float, shift: tuple[float, float], size: int
    ) -> Iterator[tuple[Thing | Pillar | Tag, Cover]]:
        """Yield the items that are there at `time`, in the order of painting, and what each covers of a frame."""
        for item in (*self.things, *((self.pillar,) if self.pillar else ()), *self.tags):
            if isinstance(item, Thing):
                if item.is_there(time):
                    centre = _shifted(item.path, time, shift)
                    yield item, shape_cover(item.shape, centre, item.radius_at(time), item.tilt, size)
            else:
                yield item, box_cover(_shifted(item.path, time, shift), item.half(), size)


def paint_tag(frame: Floats, tag: Tag, time: float, shift: tuple[float, float]) -> None:
    """Paint a tag as it is at `time` over a float32 frame [S, S, 3], in place; `shift` is the camera's."""
    centre, size = _shifted(tag.path, time, shift), len(frame)
    ground, ink = TAGS[tag.colour]
    paint(frame, box_cover(centre, tag.half(), size), ground)
    paint(frame, code_cover(tag.code, centre, size), ink)


def _shifted(path: Path2D, time: float, shift: tuple[float, float]) -> tuple[float, float]:
    """Find where a centre is in the frame, which the camera shifts."""
    x, y = path.at(time)
    return x + shift[0], y + shift[1]
