"""The kinds of questions about the demo world: how each is worded, and its possible answers."""

from typing import Literal

from ipcv.world.drawing import SHAPES
from ipcv.world.random_scene import MOST
from ipcv.world.scene import COLOURS, MOTIONS, SIZES

QuestionKind = Literal[
    "colour",
    "shape",
    "size",
    "count",
    "direction",
    "position",
    "order",
    "event",
    "existence",
    "reading",
    "caption",
]

NUMBERS = ("one", "two", "three", "four")[:MOST]
STILL = "it stays still"
EVENTS = {  # what happens to an object -> the answer
    "appears": "it appears",
    "disappears": "it disappears",
    "changes colour": "it changes colour",
    "bounces": "it bounces",
    "grows": "it grows",
    None: "nothing",
}

WORDINGS: dict[QuestionKind, tuple[str, ...]] = {
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
    "size": (
        "How big is the {}?",
        "What size is the {}?",
        "Is the {} small, medium or large?",
    ),
    "count": (
        "How many coloured objects are there?",
        "How many coloured objects do you see?",
        "How many coloured objects are in the video?",
        "Count the coloured objects.",
    ),
    "direction": (
        "Which way does the {} move?",
        "In which direction does the {} move?",
        "Where does the {} go?",
        "Which way is the {} moving?",
    ),
    "position": (
        "Is the {} {} or {} the {}?",
        "Where is the {}, {} or {} the {}?",
    ),
    "order": (
        "Which {} first, the {} or the {}?",
        "What {} first, the {} or the {}?",
    ),
    "event": (
        "What happens to the {}?",
        "What changes about the {}?",
        "Does anything happen to the {}?",
    ),
    "existence": (
        "Is there {}?",
        "Do you see {}?",
        "Can you see {}?",
    ),
    "reading": (
        "What does the {} say?",
        "What is written on the {}?",
        "Read the {}.",
        "Which code is on the {}?",
    ),
    "caption": (
        "Describe the video.",
        "What happens in the video?",
        "What do you see?",
        "What is in the video?",
    ),
}
KINDS: tuple[QuestionKind, ...] = tuple(WORDINGS)
OPTIONS: dict[QuestionKind, tuple[str, ...]] = {  # possible answers of each kind for which they never change
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "size": tuple(SIZES),
    "count": NUMBERS,
    "direction": tuple(motion if motion != "still" else STILL for motion in MOTIONS),
    "existence": ("yes", "no"),
}
BALANCE: dict[QuestionKind, tuple[str, ...]] = OPTIONS | {  # per kind, the cases that the benchmark asks equally often
    "count": (*(f"objects, {number}" for number in NUMBERS), "shape, one", "shape, two"),
    "position": ("left of, first", "left of, second", "above, first", "above, second"),
    "order": ("appears, first", "appears, second", "disappears, first", "disappears, second"),
    "event": (*EVENTS.values(), "which"),
    "existence": tuple(f"{form}, {answer}" for form in ("name", "object", "shape") for answer in ("yes", "no")),
    "reading": ("2", "3"),
    "caption": NUMBERS,
}
