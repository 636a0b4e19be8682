"""Placing the things and tags of a scene so that they stay in the frame and mostly apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator

from ipcv.world.camera import Camera
from ipcv.world.drawing import Floats
from ipcv.world.scene import Path2D, Pillar, Tag, Thing

MOMENTS = 13  # at which places are checked
EDGE = 0.015  # of the frame that stays free around everything
TRIES = 48  # places tried for each item before the scene is laid out anew
GAP = 0.01  # of the frame between what does not overlap
CastKind = Literal["pillar", "tag", "passing", "alone"]
OVERLAP: dict[tuple[CastKind, CastKind], float] = {  # share of the moments at which the first may overlap the second
    ("tag", "pillar"): 1.0,  # tags are in front
    ("passing", "pillar"): 0.35,
    ("passing", "passing"): 0.25,
}


def lay_out(
    rng: Generator,
    seconds: float,
    camera: Camera,
    things: Sequence[Thing],
    tags: Sequence[Tag],
    pillar: Pillar | None,
) -> list[Path2D] | None:
    """Find paths for the things and the tags that stay in the frame and mostly apart; `None` if one found no room."""
    moments = np.linspace(0, seconds, MOMENTS)
    shifts = np.array([camera.at(time) for time in moments])
    placed: list[_Placed] = []
    if pillar:
        placed.append(_Placed("pillar", pillar.path, shifts + pillar.path.start, np.array(pillar.half())))
    items: tuple[Tag | Thing, ...] = (*tags, *things)
    for item in items:
        room = 0.82 - 2 * max(item.half())
        travel = 0.0 if item.path.motion == "still" else float(rng.uniform(0.25, max(0.26, min(0.5, room))))
        path = replace(item.path, speed=travel / max(seconds, 2.5))
        way = shifts + [path.at(time) for time in moments]
        found = _place(rng, _kind(item), path, way, np.array(item.half()), placed)
        if found is None:
            return None
        placed.append(found)
    paths = [each.path for each in placed if each.kind != "pillar"]
    return paths[len(tags) :] + paths[: len(tags)]


def _kind(item: Tag | Thing) -> CastKind:
    """Say which items it may overlap: a thing that moves, and to which nothing else happens, may pass others."""
    if isinstance(item, Tag):
        return "tag"
    return "passing" if item.event is None and item.motion != "still" else "alone"


def _place(
    rng: Generator, kind: CastKind, path: Path2D, way: Floats, half: Floats, placed: Sequence["_Placed"]
) -> "_Placed | None":
    """Find a start for an item whose centre goes `way` [moments, 2] from there; `None` if no tried one is free."""
    low, high = half + EDGE - way.min(0), 1 - half - EDGE - way.max(0)
    if (low >= high).any():
        return None
    starts = low + rng.uniform(size=(TRIES, 2)) * (high - low)
    free = np.ones(TRIES, bool)
    for other in placed:
        meet = (np.abs(starts[:, None] + way - other.way) < half + other.half + GAP).all(-1).mean(-1)
        free &= meet <= OVERLAP.get((kind, other.kind), 0.0)
    if not free.any():
        return None
    start = starts[int(free.argmax())]
    return _Placed(kind, replace(path, start=(float(start[0]), float(start[1]))), way + start, half)


@dataclass(frozen=True)
class _Placed:
    """An item that has its place."""

    kind: CastKind
    path: Path2D
    way: Floats  # [moments, 2] its centre in the frame
    half: Floats  # [2] half its width and height
