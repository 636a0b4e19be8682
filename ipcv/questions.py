"""Questions about scenes of the procedural world, each with its one right answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from ipcv.world import COLOURS, HELD_OUT_SEEDS, MOTIONS, SHAPES, Thing, make_scene

Kind = Literal["colour", "shape", "direction", "count", "caption"]

KINDS: tuple[Kind, ...] = ("colour", "shape", "direction", "count", "caption")
NUMBERS = ("one", "two", "three")
STILL = "it stays still"


@dataclass(frozen=True)
class Question:
    """A question about a scene and its one right answer."""

    kind: Kind
    text: str
    answer: str


WORDINGS: dict[Kind, tuple[str, ...]] = {
    "colour": (
        "What colour is the {}?",
        "What is the colour of the {}?",
        "Which colour does the {} have?",
        "Tell me the colour of the {}.",
    ),
    "shape": (
        "What shape is the {}?",
        "What is the shape of the {}?",
        "Which shape does the {} have?",
        "Tell me the shape of the {}.",
    ),
    "direction": (
        "Which way does the {} move?",
        "In which direction does the {} move?",
        "Where does the {} go?",
        "Which way is the {} moving?",
    ),
    "count": (
        "How many objects are there?",
        "How many objects do you see?",
        "How many things are in the video?",
        "Count the objects.",
    ),
    "caption": (
        "Describe the video.",
        "What happens in the video?",
        "What do you see?",
        "What is in the video?",
    ),
}
ANSWERS: dict[Kind, tuple[str, ...]] = {  # of the kinds with a closed set of answers
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "direction": tuple(motion if motion != "still" else STILL for motion in MOTIONS),
    "count": NUMBERS,
}


def ask(things: tuple[Thing, ...], rng: Generator) -> list[Question]:
    """Every question that has one right answer about these objects, each in a wording drawn by `rng`."""
    facts: dict[Kind, list[tuple[str, str]]] = {
        "colour": [(t.shape, t.colour) for t in things if _only(t, things)],
        "shape": [(f"{t.colour} object", t.shape) for t in things],
        "direction": [(name, STILL if t.motion == "still" else t.motion) for t in things for name in _names(t, things)],
        "count": [("", NUMBERS[len(things) - 1])],
        "caption": [("", caption(things))],
    }
    return [
        Question(kind, str(rng.choice(WORDINGS[kind])).format(name), answer)
        for kind in KINDS
        for name, answer in facts[kind]
    ]


def caption(things: tuple[Thing, ...]) -> str:
    """One sentence that names every object and its motion, in the alphabetical order of the colours."""
    clauses = [
        f"a {t.colour} {t.shape} " + ("stays still" if t.motion == "still" else f"moves {t.motion}")
        for t in sorted(things, key=lambda t: t.colour)
    ]
    text = " and ".join([", ".join(clauses[:-1]), clauses[-1]] if clauses[1:] else clauses)
    return text[0].upper() + text[1:] + "."


def benchmark(count: int, kinds: tuple[Kind, ...] = KINDS) -> Iterator[tuple[int, Question]]:
    """`count` held-out questions with the seeds of their scenes: kinds in turn, the answers of each kind in turn.

    No two questions share a scene, and the same count gives the same questions.
    """
    seeds = iter(HELD_OUT_SEEDS)
    for index in range(count):
        turn, place = divmod(index, len(kinds))
        kind = kinds[place]
        wanted = ANSWERS.get(kind)
        while True:
            seed = next(seeds)
            rng = np.random.default_rng([seed, index])
            fitting = [
                question
                for question in ask(make_scene(seed).things, rng)
                if question.kind == kind and (wanted is None or question.answer == wanted[turn % len(wanted)])
            ]
            if fitting:
                yield seed, fitting[int(rng.integers(len(fitting)))]
                break


def _only(thing: Thing, things: tuple[Thing, ...]) -> bool:
    return sum(other.shape == thing.shape for other in things) == 1


def _names(thing: Thing, things: tuple[Thing, ...]) -> list[str]:
    """Unambiguous names; colours differ within a scene, shapes may not."""
    return [f"{thing.colour} object", f"{thing.colour} {thing.shape}", *([thing.shape] if _only(thing, things) else [])]
