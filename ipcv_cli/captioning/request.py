"""What `ipcv caption` was asked for, in the library's terms."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ipcv.text import visible
from ipcv_cli.display.render import is_terminal
from ipcv_cli.exit import UsageError

if TYPE_CHECKING:
    from ipcv.batch.inputs import Item
    from ipcv.batch.plan import Plan
    from ipcv.cluster.ray_cluster import Cluster
    from ipcv.encodings.cache import EncodingCache
    from ipcv.models.source import ModelSource
    from ipcv.options import Options
    from ipcv.output.journal import Record


@dataclass(frozen=True)
class Wanted:
    """Which videos."""

    sources: list[str]
    nul: bool = field(kw_only=True)
    glob: list[str] = field(kw_only=True)
    exclude: list[str] = field(kw_only=True)
    limit: int | None = field(kw_only=True)
    shard: str | None = field(kw_only=True)

    def items(self) -> tuple[list["Item"], list["Item"]]:
        """All items, and those of this run. Raises `UsageError` or `ValueError` for what makes no sense."""
        from ipcv.batch.inputs import collect, shard, split_list

        if self.nul and "-" not in self.sources:
            raise UsageError("-0 is about a list on stdin: give - for it")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} must be at least 1")
        sources: list[str] = []
        for source in self.sources:
            sources += split_list(_stdin(), nul=self.nul) if source == "-" else [source]
        everything = collect(sources, take=self.glob, leave=self.exclude)
        chosen = everything
        if self.shard:
            index, _, count = self.shard.partition("/")
            if not (index.isdecimal() and count.isdecimal()):
                raise UsageError(f"--shard {self.shard} makes no sense: write 1/4 for the first of four parts")
            chosen = shard(chosen, int(index), int(count))
        return everything, chosen[: self.limit]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where results go."""

    output: Path | None
    json: bool
    sidecars: list[str]
    folder: Path | None
    parquet: Path | None
    failures: Path | None

    @property
    def journal(self) -> Path | None:
        """The file of JSON lines; side-cars need one as well, to be taken up again."""
        if self.output is None and self.sidecars:
            return (self.folder or Path()) / "captions.jsonl"
        return None if self.output == Path("-") else self.output

    @property
    def shares_terminal(self) -> bool:
        """Whether captions are written to a terminal."""
        return (self.journal is None or self.json) and is_terminal(sys.stdout)

    def failures_file(self) -> Path | None:
        """`failures.jsonl` beside `captions.jsonl`, `a.failures.jsonl` beside `a.jsonl`."""
        if self.failures or self.journal is None:
            return self.failures
        name = "failures.jsonl" if self.journal.name == "captions.jsonl" else f"{self.journal.stem}.failures.jsonl"
        return self.journal.with_name(name)

    def check(self) -> None:
        """Raise `UsageError` for what cannot be written, before any work is done."""
        if self.output_dir_is_idle():
            raise UsageError("--output-dir is where side-cars go: give --sidecar as well")
        for path in (self.journal, self.parquet, self.failures_file(), self.folder):
            if path and re.match(r"\w[\w+]+:/", str(path)):  # a Path has lost one of the two slashes
                raise UsageError(f"{path} is a URL: name a local place, and copy from there afterwards")
        if self.folder:
            if self.folder.exists() and not self.folder.is_dir():
                raise UsageError(f"--output-dir {self.folder} is not a folder")
            self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.journal, self.parquet, self.failures_file()):
            if path and path.is_dir():
                raise UsageError(f"{path} is a folder: name a file")
            if path and not path.absolute().parent.is_dir():
                raise UsageError(f"{path}: there is no such folder; make it first")
        if self.parquet:
            if self.journal is None:
                raise UsageError("--parquet is made of the captions in a file: give -o as well")
            from ipcv.output.parquet import import_pyarrow

            import_pyarrow()

    def output_dir_is_idle(self) -> bool:
        """Whether a folder was given that nothing would go to."""
        return self.folder is not None and not self.sidecars

    def emit(self) -> Callable[[list["Record"]], None]:
        """What brings the lines of a video to stdout."""
        if self.journal is not None and not self.json:
            return lambda _: None
        from ipcv.output.journal import line
        from ipcv_cli.display.stdout import write

        if self.json or not is_terminal(sys.stdout):
            return lambda lines: write(b"".join(map(line, lines)).decode())
        return lambda lines: write("".join(map(_readable, lines)))


@dataclass(frozen=True, kw_only=True)
class Requests:
    """How they are captioned."""

    options: "Options"
    prompt: str | None
    preset: str | None
    questions: list[str]
    segments: str | None
    source: "ModelSource"
    cache: "EncodingCache | None"
    readers: int
    prefetch: int
    timeout: float | None
    batch_size: int
    max_download: str
    overwrite: bool
    retry_failed: bool
    max_failures: int | None
    cluster: "Cluster | None"  # None: the model runs in this process

    def plan(self) -> "Plan":
        """Raises `ValueError` for what makes no sense."""
        from ipcv.batch.plan import Plan
        from ipcv.batch.presets import DEFAULT_PROMPT, JSON, PRESETS
        from ipcv.media.segments import Segments, import_scenedetect

        first = [PRESETS[self.preset]] if self.preset else [] if self.prompt is None else [self.prompt]
        for text in (*first, *self.questions):
            if not text.strip():
                raise UsageError("the question is empty")
        segments = Segments.parse(self.segments) if self.segments else None
        if segments and segments.seconds is None:
            import_scenedetect()
        asked = tuple(dict.fromkeys([*first, *self.questions])) or (DEFAULT_PROMPT,)
        structured = self.preset == JSON
        return Plan(
            questions=asked, structured=structured, segments=segments, options=self.options, fit=self.source.fit
        )


def _stdin() -> bytes:
    if sys.stdin is None:
        raise UsageError("the list was to come from stdin, which is closed")
    return sys.stdin.buffer.read()


def _readable(record: "Record") -> str:
    """A caption for people."""
    span = f" [{record['start']:.1f} to {record['end']:.1f} s]" if record["parts"] > 1 else ""
    return f"{visible(record['id'])}{span}: {visible(record['answer'])}\n"
