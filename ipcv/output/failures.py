"""`failures.jsonl`: the videos that could not be captioned, and why. Several runs may share the file."""

import os
from collections.abc import Iterator
from pathlib import Path

from ipcv.files import parse_json, replaced, resolved
from ipcv.output.holding import held
from ipcv.output.lines import Record, append, is_torn, line
from ipcv.text import shown


class Failures:
    """A line for each video that failed. If `path` is None, failures are kept in memory only.

    A line names the `output` of its run, as the path to it from the file of failures. Lines of other outputs are left
    alone. Raises `ValueError` if the file holds something else, and `OSError`.
    """

    def __init__(self, path: Path | None, output: Path | None = None) -> None:
        self.path = path
        self.records: dict[str, Record] = {}  # of this output, by id
        self._output = None
        self._untidy = False  # whether the file holds lines of videos that are no failures any more
        if path and output:
            self._output = Path(os.path.relpath(resolved(output), resolved(path).parent)).as_posix()
        if path and path.exists():
            for record in filter(self._is_ours, _read(path).values()):
                self._untidy = self._untidy or record["id"] in self.records
                self.records[record["id"]] = record

    def is_known(self, name: str, key: str) -> bool:
        """Whether the work with this key has failed before."""
        return self.records.get(name, {}).get("key") == key

    def add(self, record: Record) -> None:
        """Note a failure, and write it to the file at once."""
        if self._output:
            record = record | {"output": self._output}
        self.drop(record["id"])
        self.records[record["id"]] = record
        if self.path:
            with held(resolved(self.path)) as file:
                _end_last_line(file)
                append(file, line(record))

    def drop(self, name: str) -> None:
        """Forget the failure of the video `name`, if there was one."""
        self._untidy = self.records.pop(name, None) is not None or self._untidy

    def tidy(self) -> None:
        """Remove from the file what is no failure of this output any more, and the file if nothing is left."""
        if self.path and self._untidy:
            with held(resolved(self.path)):
                left = list(self._left(_read(self.path)))
                if left:
                    with replaced(self.path) as copy:
                        copy.writelines(left)
                else:
                    resolved(self.path).unlink()
        self._untidy = False

    def _left(self, lines: dict[bytes, Record]) -> Iterator[bytes]:
        """The lines of other outputs, and those of failures that still are some."""
        for text, record in lines.items():
            if not self._is_ours(record) or self.records.get(record["id"]) == record:
                yield text

    def _is_ours(self, record: Record) -> bool:
        return record.get("output", self._output) == self._output


def _read(path: Path) -> dict[bytes, Record]:
    """The lines of a file of failures, the same ones once, at their last place."""
    found: dict[bytes, Record] = {}
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            record = _parsed(text)
            if record is None and not text.endswith(b"\n") and is_torn(text):
                break  # cut off: the run does that video again
            if record is None:
                raise ValueError(f"{shown(path)}, line {number} is no failure of a batch: name another output")
            found.pop(text, None)
            found[text] = record
    return found


def _end_last_line(file: int) -> None:
    """End the last line if it is whole, else remove it: a killed run left it, and nobody else writes now."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        at = os.pread(file, size, 0).rfind(b"\n") + 1
        if _parsed(os.pread(file, size - at, at)):
            append(file, b"\n")
        else:
            os.ftruncate(file, at)


def _parsed(text: bytes) -> Record | None:
    try:
        record = parse_json(text)
    except ValueError:
        return None
    is_failure = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in ("id", "key", "stage"))
    return record if is_failure else None
