"""Reference captions of scenes of the demo world, and the score of another text against them."""

import re
from collections import Counter

from ipcv.world.drawing import SHAPES
from ipcv.world.scene import COLOURS, MOTIONS, SIZES, TAGS, Scene, Thing

_NOUN = re.compile(rf"(?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
_TAG = re.compile(rf"({'|'.join(TAGS)}) tag says (\w+)")
_DEED = re.compile(
    rf"\b(moves (?:{'|'.join(MOTIONS)})|stays still|appears|disappears|bounces|grows|turns (?:{'|'.join(COLOURS)}))\b"
)


def caption(scene: Scene) -> str:
    """A sentence for every object, in the alphabetical order of their colours, and one for every tag."""
    things = [_sentence(thing, scene) for thing in sorted(scene.things, key=lambda thing: thing.colour)]
    tags = [f"A {tag.colour} tag says {tag.code}." for tag in sorted(scene.tags, key=lambda tag: tag.colour)]
    return " ".join(things + tags)


def facts(text: str) -> Counter[str]:
    """Count the facts that a caption states: objects, sizes, motions, events and codes.

    >>> sorted(facts("A small red circle moves left. A white tag says K7."))
    ['red circle', 'red circle moves left', 'small red circle', 'white tag says k7']
    """
    text = text.lower().replace("color", "colour")
    found = Counter(tag[0] for tag in _TAG.finditer(text))
    nouns = list(_NOUN.finditer(text))
    ends = [noun.start() for noun in nouns[1:]] + [len(text)]
    for noun, end in zip(nouns, ends, strict=False):
        size, colour, shape = noun.groups()
        name = f"{colour} {shape}"
        found[name] += 1
        if size and size != "medium":  # captions leave it out
            found[f"{size} {name}"] += 1
        sentence = re.split(r"[.\n;]", text[noun.end() : end])[0]
        found.update(f"{name} {deed}" for deed in _DEED.findall(sentence))
    return found


def fact_score(truth: str, text: str) -> float:
    """F1 score, 0 to 1, of the facts of `text` against those of `truth`."""
    right, said = facts(truth), facts(text)
    return 2 * (right & said).total() / max(1, right.total() + said.total())


def _sentence(thing: Thing, scene: Scene) -> str:
    size = "" if thing.size == "medium" or thing.happens("grows") else f"{thing.size} "
    name = f"{size}{thing.colour} {thing.shape}"
    motion = ["stays still" if thing.motion == "still" else f"moves {thing.motion}"]
    if len(scene.seen(thing)) < 2:  # nobody can tell
        motion = []
    match thing.event:
        case None:
            deeds = motion
        case event if event.name == "bounces":
            deeds = ["bounces"]
        case event if event.name == "appears":
            deeds = ["appears", *motion]
        case event if event.name == "changes colour":
            deeds = [*motion, f"turns {event.colour}"]
        case event:
            deeds = [*motion, event.name]
    return f"{with_article(name).capitalize()} {' and '.join(deeds)}."


def with_article(name: str) -> str:
    """`name` with "a" or "an" before it."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
