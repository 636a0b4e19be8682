"""The output file of a run: JSON lines that survive any end of it, and tell the next run which videos are done."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from ipcv.errors import OutputBusyError
from ipcv.files import replaced, sync_folder
from ipcv.text import shown

Record = dict[str, Any]  # one line, its `id` first
_BEGINS = b'{"id": "'
_ID = re.compile(rb'^\{"id": ("(?:[^"\\]|\\.)*")', re.MULTILINE)  # the id that a line begins with


@dataclass(frozen=True)
class Entry:
    """Where the lines of one video stand in the file, one after the other."""

    key: str  # `Plan.key` of the work that made them
    at: int  # where they start, in bytes
    size: int


@dataclass
class _Group:
    """Lines of one video that have been found, while more may follow."""

    id: str
    key: str
    at: int
    parts: int
    found: int = 0


@dataclass
class _Scan:
    """The findings of a pass over the file."""

    entries: dict[str, Entry] = field(default_factory=dict)
    stale: int = 0  # bytes of lines that later ones replace
    good: int = 0  # bytes up to the end of the last complete group


class Journal:
    """A JSONL file of captions. A `with` opens it, and keeps other runs out of it.

    Each line has `id`, `key`, `part` and `parts`. The lines of one video are appended together. Opening cuts off the
    lines that a killed run left unfinished. Later lines of an id replace earlier ones, which `tidy` removes. A failed
    write leaves no part of a line behind. Raises `OutputBusyError` if another run holds the file, `ValueError` if it
    holds something else, and `OSError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}  # by id
        self.repaired = 0  # bytes of unfinished lines that were cut off
        self.unfinished: set[str] = set()  # the ids of those lines
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._stale = 0
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            why = "another run is writing it; wait for that one, or name another output"
            raise OutputBusyError(f"{shown(self.path)} is in use: {why}") from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
            os.close(self._file)
            sync_folder(self.path.parent)
        finally:
            self._lock.release()

    def look(self) -> None:
        """Find out which videos are done, without holding or changing the file."""
        self.entries = _scan(self.path).entries if self.path.exists() else {}

    def is_done(self, name: str, key: str) -> bool:
        """Whether the lines of the video `name` come from the work with this key."""
        entry = self.entries.get(name)
        return entry is not None and entry.key == key

    def append(self, records: Sequence[Record]) -> None:
        """Add all lines of one video."""
        data = b"".join(map(line, records))
        before = append(self._file, data)
        self._note(records[0]["id"], Entry(records[0]["key"], before, len(data)))

    def read(self, name: str) -> list[Record]:
        """The lines of the video `name`."""
        entry = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(entry.at)
            return [json.loads(text) for text in file.read(entry.size).splitlines()]

    def records(self) -> Iterator[Record]:
        """All lines but those that later ones replace, in the order of the file."""
        with self.path.open("rb") as file:
            for entry in sorted(self.entries.values(), key=lambda entry: entry.at):
                file.seek(entry.at)
                yield from (json.loads(text) for text in file.read(entry.size).splitlines())

    def tidy(self) -> None:
        """Remove the lines that later ones have replaced."""
        if not self._stale:
            return
        with replaced(self.path) as copy, self.path.open("rb") as file:
            for entry in sorted(self.entries.values(), key=lambda entry: entry.at):
                file.seek(entry.at)
                copy.write(file.read(entry.size))
        os.close(self._file)
        self._open()

    def _note(self, name: str, entry: Entry) -> None:
        if name in self.entries:
            self._stale += self.entries[name].size
        self.entries[name] = entry

    def _open(self) -> None:
        is_new = not self.path.exists()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(self._file).st_size
            found = _Scan() if is_new else _scan(self.path)
            if found.good < size:
                self.repaired = size - found.good
                cut = os.pread(self._file, self.repaired, found.good)
                self.unfinished = {json.loads(name) for name in re.findall(_ID, cut)}
                os.ftruncate(self._file, found.good)
        except BaseException:
            os.close(self._file)
            raise
        self.entries, self._stale = found.entries, found.stale


def append(file: int, data: bytes) -> int:
    """Append all of `data` to a file, or nothing if that raises `OSError`. Return the file's length before."""
    before = os.fstat(file).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except BaseException:
        os.ftruncate(file, before)
        raise
    return before


def line(record: Record) -> bytes:
    """A record as a line of JSON in ASCII."""
    return json.dumps(record, separators=(", ", ": ")).replace("\x7f", "\\u007f").encode() + b"\n"


def _scan(path: Path) -> _Scan:
    """Find the videos whose lines are complete. Raises `ValueError` for a file with lines of another kind."""
    found, group, at = _Scan(), None, 0
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n") and _is_torn(text):
                break
            if (record := _parsed(text)) is None:
                raise ValueError(f"{shown(path)}, line {number} is no line of captions: name another output")
            group = _joined(group, record, at)
            at += len(text)
            if group and group.found == group.parts:
                _close(found, group, at)
                group = None
    return found


def _close(found: _Scan, group: _Group, end: int) -> None:
    if group.id in found.entries:
        found.stale += found.entries[group.id].size
    found.stale += group.at - found.good  # lines of a group that broke off in between
    found.entries[group.id] = Entry(group.key, group.at, end - group.at)
    found.good = end


def _joined(group: _Group | None, record: Record, at: int) -> _Group | None:
    """The group that a record at byte `at` continues or begins; `None` if it does neither."""
    if group and (group.id, group.key, group.found) == (record["id"], record["key"], record["part"]):
        group.found += 1
        return group
    if record["part"] != 0:
        return None
    return _Group(record["id"], record["key"], at, record["parts"], 1)


def _parsed(text: bytes) -> Record | None:
    """A line of captions as a record; `None` if it is something else."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    kinds = (("id", str), ("key", str), ("part", int), ("parts", int))
    return record if all(isinstance(record.get(name), kind) for name, kind in kinds) else None


def _is_torn(text: bytes) -> bool:
    """Whether `text` looks like the beginning of one of our lines."""
    return text.startswith(_BEGINS) or _BEGINS.startswith(text.rstrip(b"\0"))
