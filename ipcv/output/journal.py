"""The output file of a run: JSON lines that survive any end of it, and tell the next run which videos are done."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ipcv.errors import OutputBusyError, OutputLostError
from ipcv.files import parse_json, replaced, resolved, sync_folder
from ipcv.output.holding import HeldError, hold, is_at, take_over
from ipcv.output.lines import Found, Place, Record, append, line, scan
from ipcv.text import shown

CHUNK = 1 << 20  # bytes copied at a time
_ID = re.compile(rb'^\{"id": ("(?:[^"\\]|\\.)*")')  # the id that a line begins with


class Journal:
    """A JSONL file of captions. A `with` opens it, and keeps other runs out of it.

    Each line has `id`, `key`, `part` and `parts`. The lines of one video are appended together. A line is only removed
    after `replace`, or where the same work was broken off and is done again. Opening cuts off a torn line. A failed
    write leaves no part of a line behind. Raises `OutputBusyError` if another run holds the file, `ValueError` if it
    holds something else, and `OSError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = 0  # bytes of a torn line that were cut off
        self.torn: str | None = None  # the id in that line, if it was whole
        self._place = resolved(path)
        self._found = Found()
        self._keys: dict[str, set[str]] = {}  # of finished work, by id
        self._replaced: list[Place] = []  # lines that `tidy` removes
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self._file = hold(self._place)
        except HeldError as error:
            why = "another run is writing it; wait for that one, or name another output"
            raise OutputBusyError(f"{shown(self.path)} is in use: {why}") from error
        try:
            self.look()
            self._mend()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
        sync_folder(self._place.parent)

    def look(self) -> None:
        """Find out which videos are done. Without a `with`, this neither holds nor changes the file."""
        self._found = scan(self._place) if self._place.exists() else Found()
        self._keys = {}
        for name, key in self._found.entries:
            self._keys.setdefault(name, set()).add(key)

    def is_done(self, name: str, key: str) -> bool:
        """Whether the lines of the work with this key on the video `name` are there."""
        return key in self._keys.get(name, ())

    def knows(self, name: str) -> bool:
        """Whether there are lines of the video `name`, from whatever work, also from work that broke off."""
        return name in self._keys or name == self.torn or any(name == each for each, _ in self._found.unfinished)

    def has_others(self, name: str, key: str) -> bool:
        """Whether there are lines of the video `name`, and none of them is from the work with this key."""
        return name in self._keys and key not in self._keys[name]

    def append(self, records: Sequence[Record]) -> None:
        """Add all lines of one video."""
        self._check_place()
        work = (records[0]["id"], records[0]["key"])
        for place in self._found.unfinished.pop(work, ()):
            if place.at + place.size == os.fstat(self._file).st_size:
                os.ftruncate(self._file, place.at)
            else:
                self._replaced.append(place)
        data = b"".join(map(line, records))
        self._found.entries[work] = Place(append(self._file, data), len(data))
        self._keys.setdefault(work[0], set()).add(work[1])

    def replace(self, name: str, key: str) -> None:
        """Let the lines of the work with this key be the only ones of the video `name`: `tidy` removes the others."""
        for other in self._keys[name] - {key}:
            self._replaced.append(self._found.entries.pop((name, other)))
        self._keys[name] = {key}

    def read(self, name: str, key: str) -> list[Record]:
        """The lines of the work with this key on the video `name`."""
        with self._place.open("rb") as file:
            return _read(file, self._found.entries[name, key])

    def records(self) -> Iterator[Record]:
        """All lines of finished work, in the order of the file."""
        with self._place.open("rb") as file:
            for place in sorted(self._found.entries.values(), key=lambda place: place.at):
                yield from _read(file, place)

    def tidy(self) -> None:
        """Remove the lines that were to be replaced."""
        if not self._replaced or not is_at(self._file, self._place):
            return
        file = -1
        try:
            with replaced(self._place) as copy:
                file = os.dup(copy.fileno())
                take_over(file, self._place)
                self._copy(copy)
        except BaseException:
            if file >= 0:
                os.close(file)
            raise
        os.close(self._file)
        self._file, self._replaced = file, []
        self.look()

    def _copy(self, copy: BinaryIO) -> None:
        """Copy all but what is replaced."""
        at = 0
        for place in (*sorted(self._replaced, key=lambda place: place.at), Place(os.fstat(self._file).st_size, 0)):
            while at < place.at:
                data = os.pread(self._file, min(CHUNK, place.at - at), at)
                if not data:
                    raise OutputLostError(f"{shown(self.path)} became shorter while this run wrote it: leave it alone")
                copy.write(data)
                at += len(data)
            at += place.size

    def _mend(self) -> None:
        """Cut off a torn line, and end the last whole one."""
        size = os.fstat(self._file).st_size
        if self._found.good < size:
            self.repaired = size - self._found.good
            if found := _ID.match(os.pread(self._file, self.repaired, self._found.good)):
                self.torn = parse_json(found[1])
            os.ftruncate(self._file, self._found.good)
        if not self._found.ends:
            append(self._file, b"\n")
            self.look()

    def _check_place(self) -> None:
        """Raise `OutputLostError` if the file was deleted: what is written to it would be lost."""
        if not os.fstat(self._file).st_nlink and not is_at(self._file, self._place):
            why = "it was deleted or replaced while this run wrote it; the same command starts it anew"
            raise OutputLostError(f"{shown(self.path)} is gone: {why}")


def _read(file: BinaryIO, place: Place) -> list[Record]:
    file.seek(place.at)
    return [parse_json(text) for text in file.read(place.size).splitlines()]
