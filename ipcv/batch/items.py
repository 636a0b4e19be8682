"""The items of a run: one for each video, with its id and what is asked about it; and manifests, which list them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ipcv.files import parse_json
from ipcv.media.remote.access import is_remote
from ipcv.media.sampling import parse_time
from ipcv.text import shown

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
    nonsense: str | None = None  # what is wrong with its question or its times, which then are None


def read_manifest(path: Path) -> Iterator[Item]:
    """Read the items of a JSONL file, whose lines are objects with `FIELDS`; only `video` must be there.

    Videos are relative to the manifest's folder. A question or a time that makes no sense is its item's `nonsense`.
    Raises `ValueError` naming a line that is no item.
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
            item = _item(parse_json(line), path.parent)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{shown(path)}, line {number}: {error}") from error
        if item.id in seen:
            raise ValueError(f"{shown(path)}, line {number}: the id {shown(item.id)} is there twice")
        seen.add(item.id)
        yield item


def _item(line: Any, folder: Path) -> Item:
    if not isinstance(line, dict):
        raise TypeError(f'a line is an object such as {{"id": "1", "video": "clip.mp4"}}, not {line!r}')
    video, name = line.get("video"), line.get("id")
    if not isinstance(video, str) or not video:
        raise ValueError("there is no video in it: a path or a URL")
    place = remote_place(video) if is_remote(video) else str(Path(video).relative_to(Path(video).anchor))
    if not is_remote(video):
        video = str(folder / video)
    name = video if name is None else name
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"the id must be text or a whole number, not {name!r}")  # noqa: TRY004
    item = Item(id=str(name), video=video, place=place)
    try:
        question, start, end = _question(line.get("question")), _time(line.get("start")), _time(line.get("end"))
    except ValueError as error:
        return replace(item, nonsense=str(error))
    return replace(item, question=question, start=start, end=end)


def _question(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"the question must be text, not {value!r}")
    return value


def remote_place(url: str) -> str:
    """The file's name in a URL, without what follows it: a query may hold a secret.

    >>> remote_place("https://host/a/clip.mp4?token=abc#t=1")
    'clip.mp4'
    """
    try:
        path = urlsplit(url).path
    except ValueError:  # brackets that are no address: reading it will fail
        path = url.partition("?")[0]
    return PurePosixPath(path).name or "video"


def _time(value: Any) -> float | None:
    """Seconds from a number, or from text such as 1:30."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return parse_time(str(value))
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("a time is a finite number of seconds")
    return seconds
