"""The videos of a run: files, folders, URLs and manifests, turned into a list of items in a stable order."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ipcv.batch.folders import Choice, is_folder, summary
from ipcv.batch.items import Item, read_manifest, remote_place
from ipcv.errors import VideoError
from ipcv.media.remote.access import is_remote
from ipcv.media.remote.stores import list_remote
from ipcv.text import as_bytes, shown


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The videos that `Inputs` found."""

    everything: list[Item]
    chosen: list[Item]  # those of this run
    passed: Counter[str]  # files in folders that are no videos, by ending


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

    def collect(self) -> Collected:
        """Find the items. Raises `ValueError`, and `VideoError` if there are none."""
        passed: Counter[str] = Counter()
        everything = collect(self.sources, take=self.glob, leave=self.exclude, passed=passed)
        if self.sources and not everything:
            others = f" (passed over: {summary(passed)})" if passed else ""
            ways = "name others, or give `glob` a pattern such as '*'"
            raise VideoError(f"no video in {', '.join(map(shown, self.sources))}{others}: {ways}")
        chosen = shard(everything, *self.shard) if self.shard else everything
        return Collected(everything=everything, chosen=chosen[: self.limit], passed=passed)


def collect(
    sources: Iterable[str],
    *,
    take: Sequence[str] = (),
    leave: Sequence[str] = (),
    passed: Counter[str] | None = None,
) -> list[Item]:
    """List the items of files, folders (all the way down), URLs and manifests (`.jsonl`), in that order, each id once.

    In a folder, videos are taken, as their endings tell, or their first bytes where an ending tells nothing; or files
    that match one of the patterns `take`; nothing that matches one of `leave`, and nothing hidden. `passed` counts what
    is no video, by ending. A pattern with a slash is matched against the path under the folder, any other against
    names. Links to folders are followed, though never in circles. What is given twice is taken once. Raises
    `ValueError` for a manifest that makes no sense.
    """
    sources = list(sources)
    choice = Choice(take, leave, Counter() if passed is None else passed)
    items: dict[str, Item] = {}
    for source in sources:
        for item in _items(source, choice, several=len(sources) > 1):
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
    return int.from_bytes(blake2b(as_bytes(text), digest_size=8).digest(), "big")


def _items(source: str, choice: Choice, *, several: bool) -> Iterator[Item]:
    if is_remote(source):
        for url, place in list_remote(source, lambda name: choice.wants(name, None)):
            yield Item(id=url, video=url, place=remote_place(url) if url == source else place)
        return
    path = Path(source)
    if is_folder(path):
        above = Path(path.resolve().name) if several else Path()
        for found, problem in choice.walk(path):
            place = str(above / found.relative_to(path))
            yield Item(id=str(found), video=str(found), place=place, problem=problem)
    elif path.suffix.lower() == ".jsonl":
        yield from read_manifest(path)
    else:
        yield Item(id=str(path), video=str(path), place=path.name)
