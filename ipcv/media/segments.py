"""Dividing a video into parts that get a caption each: windows of a fixed length, or scenes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np

from ipcv.extras import require
from ipcv.media.sampling import ROUNDING, parse_time
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.probe import IndexedVideo

SCENE_WIDTH = 256  # pixels at which pictures are compared
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

    def spans(self, video: IndexedVideo, start: float, end: float) -> Iterator[Span]:
        """Divide the video between `start` and `end` (seconds). Raises `VideoError`."""
        return scenes(video, start, end) if self.seconds is None else windows(self.seconds, start, end)


def windows(seconds: float, start: float, end: float) -> Iterator[Span]:
    """Divide `start` to `end` into windows of a fixed length; the last one may be shorter.

    >>> list(windows(10, 0, 25))
    [(0, 10), (10, 20), (20, 25)]
    """
    edge = start
    for number in count(1):
        following = start + number * seconds
        if following >= end - ROUNDING:
            break
        yield edge, following
        edge = following
    yield edge, end


def scenes(video: IndexedVideo, start: float, end: float) -> Iterator[Span]:
    """Cut where the content changes at once (PySceneDetect's ContentDetector). Without a change, that is one span."""
    scenedetect = require("scenedetect")
    detector, rate = scenedetect.ContentDetector(), video.facts.fps or 1.0
    first, last = np.searchsorted(video.times, (start + ROUNDING, end - ROUNDING))
    positions = range(max(int(first) - 1, 0), int(last))
    width = min(video.facts.width, SCENE_WIDTH)
    size = max(video.facts.height * width // video.facts.width, 1), width
    edge = start
    for position, picture in zip(positions, chosen_frames(video, size, positions, []), strict=True):
        now = scenedetect.FrameTimecode(position, rate)
        for cut in detector.process_frame(now, np.ascontiguousarray(picture[..., ::-1])):
            time = float(video.times[cut.frame_num])
            if edge + ROUNDING < time < end - ROUNDING:
                yield edge, time
                edge = time
    yield edge, end
