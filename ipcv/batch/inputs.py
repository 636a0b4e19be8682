"""The videos of a run: files, folders, URLs and manifests, turned into a list of items in a stable order."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ipcv.errors import VideoError
from ipcv.files import parse_json
from ipcv.media.remote import is_remote, list_remote
from ipcv.media.sampling import parse_time
from ipcv.text import shown

ENDINGS = frozenset(
    f".{name}"
    for name in "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv".split()  # noqa: SIM905
)
FIELDS = ("id", "video", "question", "start", "end")  # of a manifest's line; others are ignored


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video to caption."""

    id: str  # its name in the output: the path as given, or the manifest's id
    video: str  # a path or a URL
    place: str  # path under the folder it was found in: where side-cars go
    question: str | None = None  # asked about this video in place of the plan's questions
    start: float | None = None  # seconds of source time
    end: float | None = None
    problem: str | None = None  # why it cannot be read, if that is known already


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The videos of a run. `collect` finds them. Raises `ValueError` for bad values."""

    sources: tuple[str, ...]  # files, folders (all the way down), URLs and manifests (`.jsonl`)
    glob: tuple[str, ...] = ()  # in folders, take the files that match one of these, whatever their ending
    exclude: tuple[str, ...] = ()  # in folders, leave out what matches one of these
    shard: tuple[int, int] | None = None  # part (1, 4), say, of four: one for each machine, each with an own output
    limit: int | None = None  # only the first so many

    @classmethod
    def of(cls, inputs: "str | Path | Iterable[str | Path] | Inputs") -> "Inputs":
        """Inputs from one source, from several, or as they are."""
        if isinstance(inputs, Inputs):
            return inputs
        return cls(sources=tuple(map(str, [inputs] if isinstance(inputs, str | Path) else inputs)))

    def __post_init__(self) -> None:
        if not all(self.sources):  # a variable of a shell that is not set, say: it would be the current folder
            raise ValueError("the name of a video or folder is empty: give `.` for the current folder")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1")
        if self.shard:
            check_shard(*self.shard)

    def collect(self) -> tuple[list[Item], list[Item]]:
        """All items, and those of this run. Raises `ValueError`, and `VideoError` if there are none."""
        everything = collect(self.sources, take=self.glob, leave=self.exclude)
        if self.sources and not everything:
            ways = "name others, or give `glob` a pattern such as '*'"
            raise VideoError(f"no video in {', '.join(map(shown, self.sources))}: {ways}")
        chosen = shard(everything, *self.shard) if self.shard else everything
        return everything, chosen[: self.limit]


def collect(sources: Iterable[str], *, take: Sequence[str] = (), leave: Sequence[str] = ()) -> list[Item]:
    """List the items of files, folders (all the way down), URLs and manifests (`.jsonl`), in that order, each id once.

    In a folder, files with a video's ending are taken, or those that match one of the patterns `take`; nothing that
    matches one of `leave`, and nothing hidden. A pattern with a slash is matched against the path under the folder,
    any other against names. Links to folders are followed, though never in circles. What is given twice is taken once.
    Raises `ValueError` for a manifest that makes no sense.
    """
    sources = list(sources)
    items: dict[str, Item] = {}
    for source in sources:
        for item in _items(source, take, leave, several=len(sources) > 1):
            known = items.setdefault(item.id, item)
            if known.video != item.video or (known.question, known.start, known.end) != (
                item.question,
                item.start,
                item.end,
            ):
                raise ValueError(f"two different videos are called {shown(item.id)}: give each an id of its own")
    return list(items.values())


def split_list(data: bytes, *, nul: bool) -> list[str]:
    """Split a list of paths, which stand on a line each or end with a NUL each. Empty ones are dropped."""
    parts = (
        data.split(b"\0") if nul else (part.rstrip(b"\r") for part in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    )
    return [os.fsdecode(part) for part in parts if part]


def shard(items: Iterable[Item], index: int, count: int) -> list[Item]:
    """Choose part `index` (from 1) of `count`, by a hash of the id: more videos never move one to another part."""
    check_shard(index, count)
    return [item for item in items if _number(item.id) % count == index - 1]


def check_shard(index: int, count: int) -> None:
    """Raise `ValueError` unless there is a part `index` of `count`."""
    if not 1 <= index <= count:
        raise ValueError(f"shard {index}/{count} makes no sense: write 1/4 to 4/4 for four parts")


def _number(text: str) -> int:
    return int.from_bytes(blake2b(os.fsencode(text), digest_size=8).digest(), "big")


def _items(source: str, take: Sequence[str], leave: Sequence[str], *, several: bool) -> Iterator[Item]:
    if is_remote(source):
        for url, place in list_remote(source, lambda name: _wanted(name, take, leave)):
            yield Item(id=url, video=url, place=place)
        return
    path = Path(source)
    if _is_folder(path):
        above = Path(path.resolve().name) if several else Path()
        for found, problem in _walk(path, take, leave):
            place = str(above / found.relative_to(path))
            yield Item(id=str(found), video=str(found), place=place, problem=problem)
    elif path.suffix.lower() == ".jsonl":
        yield from read_manifest(path)
    else:
        yield Item(id=str(path), video=str(path), place=path.name)


def _walk(root: Path, take: Sequence[str], leave: Sequence[str]) -> list[tuple[Path, str | None]]:
    """Files under `root`, and folders that cannot be listed, each of these with the reason; sorted by path."""
    found: list[tuple[Path, str | None]] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(folder.iterdir(), reverse=True)
        except OSError as error:
            found.append((folder, f"{shown(folder)} cannot be listed: {error.strerror}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                if not _matches(entry.relative_to(root), leave):
                    waiting.append(entry)
            elif _wanted(entry.relative_to(root), take, leave):
                found.append((entry, None))
    return sorted(found)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # a broken link, say, or a name that is too long: it is an item, which then fails
        return False


def _wanted(path: str | Path, take: Sequence[str], leave: Sequence[str]) -> bool:
    path = Path(path)
    is_taken = _matches(path, take) if take else path.suffix.lower() in ENDINGS
    return is_taken and not _matches(path, leave)


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path.as_posix() if "/" in pattern else path.name, pattern) for pattern in patterns)


def read_manifest(path: Path) -> Iterator[Item]:
    """Read the items of a JSONL file, whose lines are objects with `FIELDS`; only `video` must be there.

    Videos are relative to the manifest's folder. Raises `ValueError` naming the line that makes no sense.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read: {error.strerror}") from error
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = _manifest_item(parse_json(line), path.parent)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{shown(path)}, line {number}: {error}") from error
        if item.id in seen:
            raise ValueError(f"{shown(path)}, line {number}: the id {shown(item.id)} is there twice")
        seen.add(item.id)
        yield item


def _manifest_item(line: Any, folder: Path) -> Item:
    if not isinstance(line, dict):
        raise TypeError(f'a line is an object such as {{"id": "1", "video": "clip.mp4"}}, not {line!r}')
    given = {name: line.get(name) for name in FIELDS}
    video, question = given["video"], given["question"]
    if not isinstance(video, str) or not video:
        raise ValueError("there is no video in it: a path or a URL")
    if question is not None and (not isinstance(question, str) or not question.strip()):
        raise ValueError(f"the question must be text, not {question!r}")
    if not is_remote(video):
        video = str(folder / video)
    name = given["id"] if given["id"] is not None else video
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"the id must be text or a whole number, not {name!r}")  # noqa: TRY004
    place = (
        video.rpartition("/")[2] or "video"
        if is_remote(video)
        else str(Path(line["video"]).relative_to(Path(line["video"]).anchor))
    )
    return Item(
        id=str(name),
        video=video,
        place=place,
        question=question,
        start=_time(given["start"]),
        end=_time(given["end"]),
    )


def _time(value: Any) -> float | None:
    """Seconds from a number, or from text such as 1:30."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    return parse_time(str(value))
