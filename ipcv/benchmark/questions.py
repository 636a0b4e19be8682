"""Questions about scenes of the demo world, each with its one right answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.random import Generator

from ipcv.benchmark.reference_captions import caption, with_article
from ipcv.benchmark.wordings import EVENTS, KINDS, NUMBERS, OPTIONS, STILL, WORDINGS, QuestionKind
from ipcv.world.drawing import SHAPES
from ipcv.world.scene import COLOURS, Scene, Thing

APART = 0.12  # of the frame between centres, at least, where a position is asked for


@dataclass(frozen=True)
class Question:
    """A question about a scene and its one right answer."""

    kind: QuestionKind
    text: str
    answer: str
    options: tuple[str, ...] = ()  # all possible answers; empty: the answer is free text
    balance: str = ""  # which of the cases in `BALANCE` this is; "": the answer says it


def ask(scene: Scene, rng: Generator, kinds: tuple[QuestionKind, ...] = KINDS) -> list[Question]:
    """All questions of some kinds about a scene that have one right answer, each worded at random by `rng`."""
    return [question for kind in kinds for question in _ASK[kind](scene, _Wording(kind, rng))]


@dataclass(frozen=True)
class _Wording:
    """Writes questions of one kind, in wordings drawn at random."""

    kind: QuestionKind
    rng: Generator

    def __call__(self, answer: str, *words: str, options: tuple[str, ...] | None = None, balance: str = "") -> Question:
        text = str(self.rng.choice(WORDINGS[self.kind])).format(*words)
        return Question(self.kind, text, answer, OPTIONS[self.kind] if options is None else options, balance)

    def one(self, names: list[str]) -> str:
        """One of the names, drawn at random."""
        return str(self.rng.choice(names))


def full_name(thing: Thing) -> str:
    """The colour and shape that a thing begins with; no two things of a scene share a colour."""
    return f"{thing.colour} {thing.shape}"


def plural(noun: str) -> str:
    """The plural of a noun."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def names(thing: Thing, scene: Scene) -> list[str]:
    """All names that mean this thing alone. A thing that changes colour is not named by its colour.

    Grey shapes in the background share shapes with things, and tags share colours.
    """
    alone = [shape for shape in _shapes(scene, 1) if shape == thing.shape]
    if thing.happens("changes colour"):
        return alone
    return [full_name(thing), *(f"{colour} object" for colour in _colours(scene) if colour == thing.colour), *alone]


def _shapes(scene: Scene, count: int) -> list[str]:
    """Shapes that exactly `count` things and no grey distractor have."""
    shapes = [thing.shape for thing in scene.things]
    grey = {blot.shape for blot in scene.blots}
    return [shape for shape in SHAPES if shape not in grey and shapes.count(shape) == count]


def _colours(scene: Scene) -> list[str]:
    """Colours that no tag has."""
    return [colour for colour in COLOURS if colour not in {tag.colour for tag in scene.tags}]


def _colour(scene: Scene, word: _Wording) -> Iterator[Question]:
    for thing in scene.things:
        if thing.shape in names(thing, scene):
            if thing.event and thing.event.colour:
                text = f"What colour does the {thing.shape} turn?"
                yield Question("colour", text, thing.event.colour, tuple(COLOURS))
            else:
                yield word(thing.colour, thing.shape)


def _shape(scene: Scene, word: _Wording) -> Iterator[Question]:
    for thing in scene.things:
        name = f"{thing.colour} object"
        if name in names(thing, scene):
            yield word(thing.shape, name)


def _size(scene: Scene, word: _Wording) -> Iterator[Question]:
    for thing in scene.things:
        called = names(thing, scene)
        if called and not thing.happens("grows"):
            yield word(thing.size, word.one(called))


def _count(scene: Scene, word: _Wording) -> Iterator[Question]:
    number = NUMBERS[len(scene.things) - 1]
    yield word(number, options=NUMBERS, balance=f"objects, {number}")
    for count, number in enumerate(NUMBERS, 1):
        for shape in _shapes(scene, count):
            yield Question("count", f"How many {plural(shape)} are there?", number, NUMBERS, f"shape, {number}")


def _direction(scene: Scene, word: _Wording) -> Iterator[Question]:
    for thing in scene.things:
        called = names(thing, scene)
        if called and not thing.happens("bounces") and len(scene.seen(thing)) > 1:
            yield word(STILL if thing.motion == "still" else thing.motion, word.one(called))


def _position(scene: Scene, word: _Wording) -> Iterator[Question]:
    for one, other in permutations(scene.things, 2):
        together = [time for time in scene.seen(one) if other.is_there(time)]
        first, second = names(one, scene), names(other, scene)
        if len(together) < 2 or not first or not second:
            continue
        gaps = np.array([np.subtract(one.path.at(time), other.path.at(time)) for time in together])
        for axis, (low, high, of) in enumerate((("left", "right", " of"), ("above", "below", ""))):
            if abs(gaps[:, axis]).min() > APART and len(set(np.sign(gaps[:, axis]))) == 1:
                is_low = bool(gaps[0, axis] < 0)
                yield word(
                    low if is_low else high,
                    *(word.one(first), low, f"{high}{of}", word.one(second)),
                    options=(low, high),
                    balance=f"{low}{of}, {'first' if is_low else 'second'}",
                )


def _order(scene: Scene, word: _Wording) -> Iterator[Question]:
    for one, other in permutations(scene.things, 2):
        if one.event and other.event and one.event.name == other.event.name:
            options = (full_name(one), full_name(other))
            is_first = one.event.time < other.event.time
            name = one.event.name
            yield word(
                options[0] if is_first else options[1],
                name,
                *options,
                options=options,
                balance=f"{name}, {'first' if is_first else 'second'}",
            )


def _event(scene: Scene, word: _Wording) -> Iterator[Question]:
    closed = tuple(EVENTS.values())
    for thing in scene.things:
        name = thing.event.name if thing.event else None
        for called in names(thing, scene):
            # a thing that changes colour has only its shape for a name: that must not give the answer away
            yield word(EVENTS[name], called, options=closed, balance="" if called == thing.shape else "by colour")
        if name and len(scene.things) > 1 and sum(other.happens(name) for other in scene.things) == 1:
            options = tuple(map(full_name, scene.things))
            yield Question("event", f"What {name}?", full_name(thing), options, "which")


def _existence(scene: Scene, word: _Wording) -> Iterator[Question]:
    steady = [thing for thing in scene.things if not thing.happens("changes colour")]
    shapes = {thing.shape for thing in scene.things}
    colours = {thing.colour for thing in scene.things} | {
        thing.event.colour for thing in scene.things if thing.event and thing.event.colour
    }
    there = {full_name(thing) for thing in steady}
    free = _colours(scene)
    forms = {
        "name": (there, {f"{thing.colour} {shape}" for thing in steady for shape in shapes} - there),
        "object": (
            {f"{thing.colour} object" for thing in steady if thing.colour in free},
            {f"{colour} object" for colour in free if colour not in colours},
        ),
        "shape": ({thing.shape for thing in scene.things}, set(_shapes(scene, 0))),
    }
    for form, sides in forms.items():
        for answer, found in zip(("yes", "no"), sides, strict=True):
            if found:
                yield word(answer, with_article(word.one(sorted(found))), balance=f"{form}, {answer}")


def _reading(scene: Scene, word: _Wording) -> Iterator[Question]:
    for tag in scene.tags:
        called = [f"{tag.colour} tag", *(["tag"] if len(scene.tags) == 1 else [])]
        yield word(tag.code, word.one(called), options=(), balance=str(len(tag.code)))


def _caption(scene: Scene, word: _Wording) -> Iterator[Question]:
    yield word(caption(scene), options=(), balance=NUMBERS[len(scene.things) - 1])


_ASK: dict[QuestionKind, Callable[[Scene, _Wording], Iterator[Question]]] = {
    "colour": _colour,
    "shape": _shape,
    "size": _size,
    "count": _count,
    "direction": _direction,
    "position": _position,
    "order": _order,
    "event": _event,
    "existence": _existence,
    "reading": _reading,
    "caption": _caption,
}
