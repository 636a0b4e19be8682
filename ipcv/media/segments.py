"""Dividing a video into parts that get a caption each: windows of a fixed length, or scenes."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from ipcv.errors import VideoError, first_line
from ipcv.extras import require
from ipcv.media.sampling import ROUNDING, parse_time
from ipcv.text import shown

SCENES = "scenes"
Span = tuple[float, float]  # start and end, in seconds of source time


@dataclass(frozen=True, kw_only=True)
class Segments:
    """A rule to divide a video: into windows of `seconds`, or where the scene changes if that is `None`."""

    kind: ClassVar[str] = "segments"  # in cache keys: never changed

    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0.1:
            raise ValueError(f"segments of {self.seconds:g} s are too short: 0.1 s is the least")

    @classmethod
    def parse(cls, text: str) -> "Segments":
        """Read `10s`, `1:30` or `scenes`. Raises `ValueError`."""
        if text == SCENES:
            return cls()
        try:
            return cls(seconds=parse_time(re.sub(r"(?<=[\d.])s$", "", text)))
        except ValueError as error:
            raise ValueError(f"segments {text!r} are not known: write 10s, 1:30 or {SCENES} ({error})") from error

    def spans(self, path: Path, start: float, end: float) -> list[Span]:
        """Divide the file between `start` and `end` (seconds). Raises `VideoError`."""
        return scenes(path, start, end) if self.seconds is None else windows(self.seconds, start, end)


def windows(seconds: float, start: float, end: float) -> list[Span]:
    """Divide `start` to `end` into windows of a fixed length; the last one may be shorter.

    >>> windows(10, 0, 25)
    [(0, 10), (10, 20), (20, 25)]
    """
    edges = [start]
    while edges[-1] + seconds < end - ROUNDING:
        edges.append(start + len(edges) * seconds)
    return list(zip(edges, [*edges[1:], end], strict=True))


def scenes(path: Path, start: float, end: float) -> list[Span]:
    """Cut where the content changes at once (PySceneDetect's ContentDetector). Without a change, that is one span."""
    scenedetect = require("scenedetect")
    try:
        video = scenedetect.open_video(str(path.absolute()), backend="pyav")
        manager = scenedetect.SceneManager()
        manager.add_detector(scenedetect.ContentDetector())
        manager.detect_scenes(video, show_progress=False)
        cuts = [float(first.seconds) for first, _ in manager.get_scene_list()]
    except Exception as error:
        raise VideoError(f"scenes of {shown(path)} cannot be found: {shown(first_line(error))}") from error
    edges = [start, *(cut for cut in cuts if start + ROUNDING < cut < end - ROUNDING), end]
    return list(pairwise(edges))
