"""Lines of captions in a file: how they are written, and how those of one piece of work are found again."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipcv.files import parse_json
from ipcv.text import shown

Record = dict[str, Any]  # one line, its `id` first
Work = tuple[str, str]  # a video's id, and the `Plan.key` of what was done with it
_BEGINS = b'{"id": "'


@dataclass(frozen=True)
class Place:
    """Where lines stand in the file, one after the other."""

    at: int  # where they start, in bytes
    size: int


@dataclass
class Found:
    """The findings of a pass over the file."""

    entries: dict[Work, Place] = field(default_factory=dict)  # the lines of each piece of work; of doubles the last
    unfinished: dict[Work, list[Place]] = field(default_factory=dict)  # lines whose work broke off
    good: int = 0  # bytes up to the end of the last line that is whole
    ends: bool = True  # whether that line ends with a line break


@dataclass
class _Group:
    """Lines of one piece of work that have been found, while more may follow."""

    work: Work
    at: int
    parts: int
    found: int = 0


def line(record: Record) -> bytes:
    """A record as a line of JSON in ASCII."""
    return json.dumps(record, separators=(", ", ": ")).replace("\x7f", "\\u007f").encode() + b"\n"


def append(file: int, data: bytes) -> int:
    """Append all of `data` to a file, or nothing if that raises `OSError`. Return the file's length before."""
    before = os.lseek(file, 0, os.SEEK_END)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except BaseException:
        os.ftruncate(file, before)
        raise
    return before


def scan(path: Path) -> Found:
    """Find the lines of every piece of work. Raises `ValueError` for a file with lines of another kind."""
    found, group = Found(), None
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            record = _parsed(text)
            if record is None and not text.endswith(b"\n") and is_torn(text):
                break
            if record is None:
                raise ValueError(f"{shown(path)}, line {number} is no line of captions: name another output")
            group = _joined(found, group, record)
            found.good += len(text)
            found.ends = text.endswith(b"\n")
            if group and group.found == group.parts:
                found.entries[group.work] = Place(group.at, found.good - group.at)
                group = None
        _break_off(found, group)
    return found


def _joined(found: Found, group: _Group | None, record: Record) -> _Group | None:
    """The group that the next record continues or begins; `None` if it does neither."""
    work = (record["id"], record["key"])
    if group and (group.work, group.found) == (work, record["part"]):
        group.found += 1
        return group
    _break_off(found, group)
    if record["part"] != 0:
        return None
    return _Group(work, found.good, record["parts"], 1)


def _break_off(found: Found, group: _Group | None) -> None:
    """Note that no more lines of `group` follow at this place."""
    if group:
        found.unfinished.setdefault(group.work, []).append(Place(group.at, found.good - group.at))


def _parsed(text: bytes) -> Record | None:
    """A line of captions as a record; `None` if it is something else."""
    try:
        record = parse_json(text)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    kinds = (("id", str), ("key", str), ("part", int), ("parts", int))
    return record if all(isinstance(record.get(name), kind) for name, kind in kinds) else None


def is_torn(text: bytes) -> bool:
    """Whether `text` looks like the beginning of one of our lines."""
    return text.startswith(_BEGINS) or _BEGINS.startswith(text.rstrip(b"\0"))
