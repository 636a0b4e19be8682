"""Making up a scene of the demo world from a seed."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from ipcv.world.camera import Camera, CameraKind
from ipcv.world.drawing import GLYPHS, SHAPES, Floats
from ipcv.world.layout import lay_out
from ipcv.world.scene import (
    COLOURS,
    FPS,
    MOTIONS,
    SIZES,
    TAGS,
    EventName,
    Path2D,
    Pillar,
    Scene,
    SceneClip,
    SceneEvent,
    Tag,
    Thing,
)

FRAMES = (4, 6, 8, 10, 12, 14, 16)  # of a clip at two per second
PIXELS = (112, 140, 168, 196, 224)  # per side of a clip
MOST = 4  # objects in a scene
LAYOUTS = 12  # before other items are drawn
NOISE = 2.0  # of the sensor of a still camera, at most


def make_scene(seed: int, camera: CameraKind | None = None) -> Scene:
    """Make the scene of a seed.

    One to four objects of different colours, up to two tags, and now and then a pillar that hides what passes behind.
    `camera` says whether the camera moves or stands still, as a real one does, with a little noise; without it the seed
    says so: one in four stands still, free of noise. The choice changes the rest of the scene as well.
    """
    rng = np.random.default_rng(seed)
    seconds = float(rng.choice(FRAMES, p=(0.08, 0.16, 0.28, 0.16, 0.14, 0.09, 0.09))) / FPS
    filming = _camera(rng, seconds, camera)
    paths = None
    while paths is None:  # a crowd that does not fit makes room for another one
        things, tags, pillar = _things(rng, seconds), _tags(rng), _pillar(rng)
        layouts = (lay_out(rng, seconds, filming, things, tags, pillar) for _ in range(LAYOUTS))
        paths = next(filter(None, layouts), None)
    level = rng.uniform(35, 115) + rng.uniform(-22, 22, 3)
    return Scene(
        seconds=seconds,
        size=int(rng.choice(PIXELS)),
        things=tuple(replace(thing, path=path) for thing, path in zip(things, paths, strict=False)),
        tags=tuple(replace(tag, path=path) for tag, path in zip(tags, paths[len(things) :], strict=True)),
        pillar=pillar,
        camera=filming,
        textures=_textures(rng, level),
        blots=_blots(rng, float(level.mean())),
    )


def make_clip(seed: int, *, camera: CameraKind | None = None, size: int | None = None, fps: float = FPS) -> SceneClip:
    """Render a scene at `fps` frames per second, `size` × `size` pixels (`None`: its own size).

    >>> make_clip(7, size=112).frames.shape[1:]
    (112, 112, 3)
    """
    scene = make_scene(seed, camera)
    return scene.render((i / fps for i in range(round(scene.seconds * fps))), size or scene.size)


def _camera(rng: Generator, seconds: float, kind: CameraKind | None) -> Camera:
    """Draw a camera: that pans or not, shakes or not, unless `kind` says that it stands still or moves."""
    angle, pans, length = rng.uniform(0, 2 * np.pi), rng.choice((0.0, 1.0)), rng.uniform(0.03, 0.1) / seconds
    shakes, shake = rng.choice((0.0, 1.0)), rng.uniform(0.002, 0.01)
    if kind == "still":
        pans, shakes = 0.0, 0.0
    elif kind == "moving" and not shakes:
        pans = 1.0
    return Camera(
        pan=(float(pans * length * np.cos(angle)), float(pans * length * np.sin(angle))),
        shake=float(shakes * shake),
        frequencies=(float(rng.uniform(1, 4)), float(rng.uniform(1, 4))),
        phases=(float(rng.uniform()), float(rng.uniform())),
        noise=float(rng.uniform(0, NOISE)) if kind == "still" else 0.0,
    )


def _things(rng: Generator, seconds: float) -> tuple[Thing, ...]:
    """Draw the objects and their events; they have no place yet."""
    count = int(rng.integers(1, MOST + 1))
    colours = rng.permutation(list(COLOURS)).tolist()
    shapes = rng.choice(list(SHAPES), count).tolist()
    sizes = rng.choice(list(SIZES), count).tolist()
    motions = rng.choice(list(MOTIONS), count).tolist()
    events = _events(rng, seconds, count, colours[count:])
    for index, event in enumerate(events):
        if event is None:
            continue
        if event.name == "bounces" and motions[index] == "still":
            motions[index] = str(rng.choice(["left", "right", "up", "down"]))
        if event.name == "grows":
            sizes[index] = str(rng.choice(["small", "medium"]))
    return tuple(
        Thing(
            colour=colours[i],
            shape=shapes[i],
            size=sizes[i],
            rgb=_shade(rng, colours[i]),
            radius=float(rng.uniform(*SIZES[sizes[i]])),
            tilt=float(rng.uniform(-0.35, 0.35)),
            path=Path2D(
                motion=motions[i],
                speed=0.0,
                start=(0.0, 0.0),
                bounce=event.time if event and event.name == "bounces" else float("inf"),
            ),
            event=event,
        )
        for i, event in enumerate(events)
    )


def _events(rng: Generator, seconds: float, count: int, colours: list[str]) -> list[SceneEvent | None]:
    """Draw what happens: nothing, one event to one of `count` objects, or two objects that both come or both go."""
    events: list[SceneEvent | None] = [None] * count
    chance = rng.random()
    if chance < 0.25:
        return events
    first, second = rng.permutation(max(count, 2))[:2]
    if chance < 0.55 and count > 1 and seconds >= 4:
        name: EventName = "appears" if rng.random() < 0.5 else "disappears"
        events[first] = SceneEvent(name=name, time=float(rng.uniform(0.16, 0.34) * seconds))
        events[second] = SceneEvent(name=name, time=float(rng.uniform(0.64, 0.82) * seconds))
        return events
    names: tuple[EventName, ...] = ("appears", "disappears", "changes colour", "bounces", "grows")
    name = names[int(rng.integers(3 if seconds < 3 else 5))]
    event = SceneEvent(name=name, time=float(rng.uniform(0.35, 0.65) * seconds))
    if name == "changes colour":
        event = replace(event, colour=colours[0], rgb=_shade(rng, colours[0]))
    events[min(first, count - 1)] = event
    return events


def _tags(rng: Generator) -> tuple[Tag, ...]:
    count = int(rng.choice(3, p=(0.35, 0.45, 0.2)))
    return tuple(
        Tag(
            colour=colour,
            code="".join(rng.choice(list(GLYPHS), int(rng.integers(2, 4)))),
            path=Path2D(motion=str(rng.choice(list(MOTIONS))), speed=0.0, start=(0.0, 0.0)),
        )
        for colour in rng.permutation(list(TAGS))[:count].tolist()
    )


def _shade(rng: Generator, colour: str) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.array(COLOURS[colour]) * rng.uniform(0.85, 1.05) + rng.normal(0, 7, 3), 0, 255)
    return float(red), float(green), float(blue)


def _textures(rng: Generator, level: Floats) -> tuple[Floats, ...]:
    """A flat ground, a gradient, and two finer textures of random strength."""
    textures = [level.reshape(1, 1, 3).astype(np.float32)]
    for cells, amplitude in ((2, 25), (int(rng.integers(3, 9)), 22), (int(rng.integers(12, 65)), 14)):
        grey = rng.normal(size=(cells, cells, 1)) * rng.uniform(0, amplitude)
        if cells > 8 and rng.random() < 0.3:  # stripes
            grey = np.broadcast_to(grey[:1] if rng.random() < 0.5 else grey[:, :1], grey.shape)
        texture = grey + rng.normal(size=(cells, cells, 3)) * rng.uniform(0, amplitude / 3)
        textures.append(texture.astype(np.float32))
    return tuple(textures)


def _blots(rng: Generator, level: float) -> tuple[Thing, ...]:
    """Up to four grey shapes that are part of the background."""
    greys = np.clip(level + rng.choice((-1, 1), 4) * rng.uniform(15, 45, 4), 10, 160)
    return tuple(
        Thing(
            colour="grey",
            shape=str(rng.choice(list(SHAPES))),
            size="",
            rgb=(float(grey), float(grey), float(grey)),
            radius=float(rng.uniform(0.03, 0.15)),
            tilt=float(rng.uniform(-3, 3)),
            path=Path2D(motion="still", speed=0.0, start=(float(rng.uniform()), float(rng.uniform()))),
        )
        for grey in greys[: int(rng.integers(0, 5))]
    )


def _pillar(rng: Generator) -> Pillar | None:
    grey, at, width = float(rng.uniform(15, 100)), float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.06, 0.12))
    path = Path2D(motion="still", speed=0.0, start=(at, 0.5))
    return Pillar(rgb=(grey, grey, grey), path=path, width=width) if rng.random() < 0.3 else None
