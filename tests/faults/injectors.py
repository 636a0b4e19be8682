"""Faults in the bytes of a file: each a pure function of the bytes and a seed.

>>> zeroed(b"abcdef" * 100, 1) == zeroed(b"abcdef" * 100, 1)
True
"""

import random
import re
import struct
from collections.abc import Callable, Iterator
from functools import partial

Injector = Callable[[bytes, int], bytes]
HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00FFFFFF)
NUMBERS = (0, 1, *HUGE)
BOXES = rb"moov|mvhd|tkhd|mdhd|stsd|stts|ctts|stsc|stsz|stco|elst"


def cut(content: bytes, seed: int, share: float) -> bytes:
    """Only the first `share` of it."""
    return content[: int(len(content) * share)]


def flipped(content: bytes, seed: int, begin: float, end: float, most: int = 8) -> bytes:
    """Some bits between two shares of it are other ones."""
    rng, broken = random.Random(seed), bytearray(content)
    first, last = int(len(content) * begin), max(int(len(content) * end), 1)
    for _ in range(rng.randint(1, most)):
        broken[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(broken)


def zeroed(content: bytes, seed: int) -> bytes:
    """A range of up to a quarter of it is zero, as after a crash of the file system."""
    rng, broken = random.Random(seed), bytearray(content)
    length = rng.randint(1, max(len(content) // 4, 1))
    begin = rng.randrange(len(content) - length + 1)
    broken[begin : begin + length] = bytes(length)
    return bytes(broken)


def swapped(content: bytes, seed: int) -> bytes:
    """Its halves, or two other parts, in the wrong order."""
    at = len(content) // 2 if seed % 4 == 0 else random.Random(seed).randrange(1, len(content))
    return content[at:] + content[:at]


def doubled(content: bytes, seed: int) -> bytes:
    """A part of it comes twice."""
    begin, end = sorted(random.Random(seed).choices(range(len(content)), k=2))
    return content[:end] + content[begin:]


def declared(content: bytes, seed: int) -> bytes:
    """A number in its first or last tenth, such as a size or a count, is huge or nothing."""
    rng, broken = random.Random(seed), bytearray(content)
    tenth = max(len(content) // 10, 64)
    places = [*range(min(tenth, len(content) - 4)), *range(max(len(content) - tenth, 0), len(content) - 4)]
    for _ in range(rng.randint(1, 2)):
        struct.pack_into(rng.choice("<>") + "I", broken, rng.choice(places), rng.choice(NUMBERS))
    return bytes(broken)


def boxed(content: bytes, seed: int) -> bytes:
    """A number in or before one of the boxes of an MP4 is huge or nothing; other files as of `declared`."""
    boxes = [
        found.start() for found in re.finditer(rb"moov|mvhd|tkhd|mdhd|stsd|stts|ctts|stsc|stsz|stco|elst", content)
    ]
    if not boxes:
        return declared(content, seed + 1)
    rng, broken = random.Random(seed), bytearray(content)
    at = min(rng.choice(boxes) + rng.choice((-4, 4, 8, 12, 16, 20, 24)), len(content) - 4)
    struct.pack_into(">I", broken, at, rng.choice(NUMBERS))
    return bytes(broken)


def noise(content: bytes, seed: int) -> bytes:
    """Random bytes behind its first ones."""
    rng = random.Random(seed)
    return content[: rng.choice((4, 12, 64))] + rng.randbytes(len(content))


CUTS: dict[str, Injector] = {f"cut-{percent:02}": partial(cut, share=percent / 100) for percent in range(0, 100, 5)}
PARTS = {"header": (0.0, 0.1), "payload": (0.1, 0.85), "index": (0.85, 1.0)}
CHANGES: dict[str, Injector] = {
    **{f"flip-{part}": partial(flipped, begin=begin, end=end) for part, (begin, end) in PARTS.items()},
    "zeros": zeroed,
    "swap": swapped,
    "twice": doubled,
    "huge": declared,
    "boxes": boxed,
    "noise": noise,
}


def all_broken(content: bytes, times: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`content` with every cut, and with every other fault that many `times`, named by fault and seed."""
    for name, inject in CUTS.items():
        yield name, inject(content, 0)
    for name, inject in CHANGES.items():
        for each in range(seed, seed + times):
            yield f"{name}-{each}", inject(content, each)
