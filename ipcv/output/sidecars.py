"""Side-cars: a file for each video, beside it or in a folder, with its captions as text, JSON, subtitles or a table."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pysubs2

from ipcv.batch.items import Item
from ipcv.errors import SidecarError
from ipcv.files import replaced
from ipcv.media.remote.access import is_remote
from ipcv.output.lines import Record
from ipcv.text import as_bytes, shown, visible

SidecarKind = str
Writer = Callable[[Sequence[Record]], str]
COLUMNS = ("id", "start", "end", "question", "answer")
FORMULA = tuple("=+-@＝＋－＠")  # what a cell begins with that a spreadsheet computes
WRITING = "\n\t\xad\u061c\u180e\u200b\u200e\u200f\u2060"  # unseen characters that some scripts are written with


@dataclass(frozen=True, kw_only=True)
class Sidecars:
    """The side-cars of a run, and their names.

    `x.mp4` gets `x.txt`. If two videos would share that name, they get `x.mp4.txt` and `x.mov.txt`; if even these are
    taken, the name has part of a hash of the id. Raises `ValueError` for kinds that are not known, and for remote
    videos without a `folder`.
    """

    kinds: tuple[SidecarKind, ...]  # of WRITERS
    folder: Path | None = None  # None: next to each video
    items: tuple[Item, ...] = ()  # all videos of the inputs, whether this run captions them or not
    names: dict[str, Path] = field(init=False, default_factory=dict, repr=False)  # by id, without the ending

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in WRITERS:
                raise ValueError(f"side-car {kind!r} is not known: use {', '.join(WRITERS)}")
        if self.kinds and self.folder is None and any(is_remote(item.video) for item in self.items):
            raise ValueError("remote videos have no place next to them: give output_dir")
        self.names.update(_unique(self.items, self.folder) if self.kinds else {})

    def paths(self, item: Item) -> list[Path]:
        """The side-cars of one video."""
        return [_with_ending(self.names[item.id], kind) for kind in self.kinds]

    def check(self, item: Item) -> None:
        """Raise `SidecarError` if one of the video's side-cars exists: for a new video, it is somebody else's file."""
        for path in self.paths(item):
            if path.exists():
                why = "it is not from this output"
                ways = "move it and give retry_failed, name an output_dir, or give `overwrite`"
                raise SidecarError(f"{shown(path)} is there already: {why}; {ways}")

    def write(self, item: Item, records: Sequence[Record]) -> None:
        """Write the side-cars of one video that are missing or differ. Raises `OSError`."""
        for kind, path in zip(self.kinds, self.paths(item), strict=True):
            data = WRITERS[kind](records).encode(errors="backslashreplace")
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replaced(path) as file:
                    file.write(data)


def _unique(items: Iterable[Item], folder: Path | None) -> dict[str, Path]:
    """A path without its ending for each id, no two the same if upper and lower case count as one."""
    whole = {item.id: (folder / _safe(item.place) if folder else Path(item.video)) for item in items}
    names = {name: path.with_suffix("") for name, path in whole.items()}
    for better in (
        lambda name: whole[name],
        lambda name: whole[name].with_name(f"{whole[name].name}-{blake2b(as_bytes(name), digest_size=4).hexdigest()}"),
    ):
        for shared in _shared(names):
            names.update({name: better(name) for name in shared})
    return names


def _shared(names: dict[str, Path]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name, path in names.items():
        groups[str(path).casefold()].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _safe(place: str) -> Path:
    """`place` without parts that would lead out of a folder."""
    return Path(*[part for part in Path(place).parts if part not in ("..", "/")])


def _with_ending(path: Path, kind: SidecarKind) -> Path:
    return path.with_name(f"{path.name}.{kind}")


def _plain(text: str) -> str:
    """`text` with control characters as escapes, except line breaks, tabs and what some scripts are written with."""
    return visible("\n".join(text.splitlines()), keep=WRITING)


def _text(records: Sequence[Record]) -> str:
    """The answers, each on lines of its own."""
    return "".join(f"{_plain(record['answer'].strip())}\n" for record in records)


def _json(records: Sequence[Record]) -> str:
    return json.dumps(records[0] if len(records) == 1 else list(records), indent=2).replace("\x7f", "\\u007f") + "\n"


def _csv(records: Sequence[Record]) -> str:
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(record[name]) for name in COLUMNS] for record in records)
    return table.getvalue()


def _cell(value: str | float) -> str | float:
    """A value that a spreadsheet shows as it is: text that it would compute stands behind an apostrophe."""
    if not isinstance(value, str):
        return value
    text = _plain(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def _subtitles(kind: str) -> Writer:
    def write(records: Sequence[Record]) -> str:
        spans: dict[tuple[float, float], list[str]] = defaultdict(list)
        for record in records:
            lines = [line for line in _plain(record["answer"]).splitlines() if line.strip()]
            spans[record["start"], record["end"]] += lines
        file = pysubs2.SSAFile()
        for (start, end), lines in spans.items():
            event = pysubs2.SSAEvent(start=pysubs2.make_time(s=start), end=pysubs2.make_time(s=end))
            event.plaintext = _CUES[kind]("\n".join(lines))
            file.append(event)
        return file.to_string(kind)

    return write


def _srt_cue(text: str) -> str:
    """Text of a cue: an arrow would look like another one's times, a brace or an angle like a style."""
    text = text.replace("-->", "→").replace("{", "(").replace("}", ")")
    return re.sub(r"<(?=[/a-zA-Z])", "‹", text)


def _vtt_cue(text: str) -> str:
    """Text of a cue, in which `&`, `<` and `>` are written as in HTML; a brace would look like a style to pysubs2."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("{", "(").replace("}", ")")


_CUES = {"srt": _srt_cue, "vtt": _vtt_cue}
WRITERS: dict[SidecarKind, Writer] = {
    "txt": _text,
    "json": _json,
    "srt": _subtitles("srt"),
    "vtt": _subtitles("vtt"),
    "csv": _csv,
}
