"""`failures.jsonl`: the videos that could not be captioned, and why."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipcv.files import replaced
from ipcv.output.journal import Record, append, line
from ipcv.text import shown


class Failures:
    """A line for each video that failed. If `path` is None, failures are kept in memory only.

    Use it while the journal is held, which keeps other runs out. Raises `ValueError` if the file holds something
    else, and `OSError`.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[str, Record] = {}  # by id
        self._untidy = False  # whether the file holds lines of videos that are no failures any more
        self._whole = 0  # bytes of whole lines when it was read
        if path and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if not text.endswith(b"\n"):
                    break  # cut off: the run does that video again
                self._whole += len(text)
                record = _parsed(text)
                if record is None:
                    raise ValueError(f"{shown(path)}, line {number} is no failure of a batch: name another output")
                self._untidy = self._untidy or record["id"] in self.records
                self.records[record["id"]] = record

    def is_known(self, name: str, key: str) -> bool:
        """Whether the work with this key has failed before."""
        return self.records.get(name, {}).get("key") == key

    def add(self, record: Record) -> None:
        """Note a failure, and write it to the file at once."""
        self._untidy = self.records.pop(record["id"], None) is not None or self._untidy
        self.records[record["id"]] = record
        if self.path:
            with _opened(self.path) as file:
                if self._whole < os.fstat(file).st_size:
                    os.ftruncate(file, self._whole)
                data = line(record)
                self._whole = append(file, data) + len(data)

    def drop(self, name: str) -> None:
        """Forget the failure of the video `name`, if there was one."""
        self._untidy = self.records.pop(name, None) is not None or self._untidy

    def tidy(self) -> None:
        """Remove from the file what is no failure any more, and the file if nothing is left."""
        if self.path and self._untidy:
            if self.records:
                with replaced(self.path) as file:
                    file.writelines(map(line, self.records.values()))
            else:
                self.path.unlink(missing_ok=True)
        self._untidy = False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def _parsed(text: bytes) -> Record | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    is_failure = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("id", "key", "stage"))
    return record if is_failure else None
