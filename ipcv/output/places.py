"""The files that a run writes: captions, side-cars, failures and a table."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ipcv.extras import require
from ipcv.files import resolved
from ipcv.output.streams import is_stream, is_writable_stream
from ipcv.text import shown

NOWHERE = Path("-")
# endings that promise another format than JSON lines
FORMATS = frozenset(
    f".{name}"
    for name in "csv tsv json xml yaml yml txt md html srt vtt parquet pq arrow feather xls xlsx ods sqlite db pdf "  # noqa: SIM905
    "gz bz2 xz zst zip tar".split()
)
TABLES = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files that a run writes.

    Raises `ValueError` for an `output_dir` without side-cars, and for a file without a name.
    """

    output: Path | None = None  # JSON lines; "-": no file; None: no file, unless side-cars need one to be resumed.
    # A pipe, a terminal or /dev/null gets the lines as well, but remembers nothing
    sidecars: tuple[str, ...] = ()  # kinds of files beside the videos: txt, json, srt, vtt, csv
    output_dir: Path | None = None  # where side-cars go instead, in the folders' own tree
    parquet: Path | None = None  # at the end, all of the output as a table
    failures: Path | None = None  # a line for each video that failed; None: beside the output, named after it.
    # Runs may share it; /dev/null: no file

    def __post_init__(self) -> None:
        if self.output_dir is not None and not self.sidecars:
            raise ValueError("output_dir is where side-cars go: give `sidecars` as well")
        for path in (self.output, self.parquet, self.failures):
            if path is not None and not path.name:
                raise ValueError(f"{path} is a folder: name a file")

    @property
    def stream(self) -> Path | None:
        """The output, if it is no file that could be read again."""
        return self.output if self.output not in (None, NOWHERE) and is_stream(self.output) else None

    @property
    def journal(self) -> Path | None:
        """The file of JSON lines; `captions.jsonl` if only side-cars were asked for."""
        if self.output is None and self.sidecars:
            return (self.output_dir or Path()) / "captions.jsonl"
        return None if self.output == NOWHERE or self.stream else self.output

    @property
    def failures_file(self) -> Path | None:
        """The file of failures: `failures.jsonl` beside `captions.jsonl`, `a.failures.jsonl` beside `a.jsonl`."""
        if self.failures == Path(os.devnull):
            return None
        if self.failures or self.journal is None:
            return self.failures
        name = "failures.jsonl" if self.journal.name == "captions.jsonl" else f"{self.journal.stem}.failures.jsonl"
        return self.journal.with_name(name)

    def check(self) -> None:
        """Raise `ValueError` for what cannot be written, before any work is done. Makes nothing."""
        files = [path for path in (self.journal, self.parquet, self.failures_file) if path]
        for path in (*files, self.output_dir):
            if path and re.match(r"\w[\w+]+:/", str(path)):  # a Path has lost one of the two slashes
                raise ValueError(f"{path} is a URL: name a local place, and copy from there afterwards")
        if self.stream and not is_writable_stream(self.stream):
            raise ValueError(f"{shown(self.stream)} is a device or a socket: name a file")
        self._check_endings()
        for path in (self.output_dir, *self.output_dir.parents) if self.output_dir else ():
            if path.exists() and not path.is_dir():
                raise ValueError(f"output_dir={self.output_dir}: {path} is not a folder; name another place")
        for path in files:
            self._check_file(path)
        if len(set(map(resolved, files))) < len(files):
            raise ValueError("`output`, `parquet` and `failures` are different files: give each a name of its own")
        if self.parquet:
            if self.journal is None:
                raise ValueError("`parquet` is made of the captions in a file: give `output` as well")
            if _start(self.parquet) not in (b"", b"PAR1"):  # a table is replaced, anything else is not
                raise ValueError(f"{self.parquet} is there already and no Parquet table: name another file")
            require("pyarrow")

    def make_folder(self) -> None:
        """Make `output_dir`, if it is not there."""
        if self.output_dir:
            self.output_dir.mkdir(parents=True, exist_ok=True)

    def _check_endings(self) -> None:
        for path in (self.journal, self.failures_file):
            if path and path.suffix.lower() in FORMATS:
                name = shown(path.stem.removesuffix(".jsonl"))
                ways = f"name it {name}.jsonl, or ask for `parquet` or `sidecars` as well"
                raise ValueError(f"{shown(path)} would get JSON lines, whatever its ending says: {ways}")
        if self.parquet and self.parquet.suffix.lower() in FORMATS.difference(TABLES):
            name = shown(self.parquet.with_suffix(".parquet").name)
            raise ValueError(
                f"{shown(self.parquet)} would get a Parquet table, whatever its ending says: name it {name}"
            )

    def _check_file(self, path: Path) -> None:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name a file")
        if is_stream(path):
            raise ValueError(f"{path} is a device or a pipe: name a file")
        folder = resolved(path).parent
        if not folder.is_dir() and not (self.output_dir and folder == resolved(self.output_dir)):
            raise ValueError(f"{path}: there is no such folder; make it first")


def _start(path: Path) -> bytes:
    """The first four bytes of a file; none if it is not there."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(4)
