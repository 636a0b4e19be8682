"""Choosing which frames of a video are read, by their timestamps alone."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ipcv.errors import VideoError

LATE = 0.5  # seconds by which pictures may begin after their sound without a warning
ROUNDING = 1e-3  # seconds: containers such as Matroska round each frame's time to a millisecond
Times = NDArray[np.float64]
Positions = NDArray[np.intp]
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of which frames to take. All times are seconds of source time."""

    kind: ClassVar[str] = "sampling"  # in cache keys: never changed

    fps: float = 2.0  # frames per second of source time
    max_frames: int = 64  # at most this many, evenly over the clip when the cap binds
    start: float | None = None  # from here on; None: from the first frame
    end: float | None = None  # up to here, exclusive; None: to the last frame

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a number above 0, not {self.fps}")
        if self.max_frames < 2:
            raise ValueError(f"max_frames must be at least 2 (frames are encoded in pairs), not {self.max_frames}")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a time of 0 seconds or more, not {value}")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError(f"end ({self.end:g} s) must come after start ({self.start or 0.0:g} s)")


@dataclass(frozen=True)
class Choice:
    """The frames to read, and warnings about the choice."""

    positions: tuple[int, ...]  # into the frame times, ascending; a last one may be repeated to fill a pair
    warnings: tuple[str, ...]


def parse_time(text: str) -> float:
    """Read `90`, `1:30` or `0:01:30.5` as seconds. Raises `ValueError` for anything else.

    >>> parse_time("0:01:30.5")
    90.5
    """
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise ValueError(
            f"{text!r} is not a time: write seconds or [hours:]minutes:seconds, as in 90, 1:30 or 0:01:30.5"
        )
    hours, minutes, seconds = (float(part) if part else 0.0 for part in found.groups())
    if (found[2] and seconds >= 60) or (found[1] and minutes >= 60):
        raise ValueError(f"{text!r} is not a time: minutes and seconds after a colon stay below 60, as in 1:30")
    total = hours * 3600 + minutes * 60 + seconds
    if math.isinf(total):
        raise ValueError(f"{text[:20]!r} and so on is not a time, it is too long: write 90, 1:30 or 0:01:30.5")
    return total


def choose(
    times: Sequence[float],
    sampling: Sampling,
    *,
    duration: float | None = None,
    multiple: int = 2,
    most: int | None = None,
) -> Choice:
    """Choose the frames on display at every `1/fps` seconds, or `max_frames` evenly over the clip if that is fewer.

    `times`: when each frame appears, in seconds, ascending, at any spacing; `duration`: when the last one disappears;
    `most`: a number in place of `max_frames`, 1 at least.
    No frame is taken twice, however long it stays on display, unless there are too few for a `multiple`.
    Raises `VideoError` where the clip starts after the video's end, or ends before its first frame.
    """
    shown = np.asarray(times, dtype=np.float64)
    over = float(shown[-1]) + ROUNDING if duration is None else duration
    warnings = list(_doubts(sampling, float(shown[0]), over))
    first, last = _span(shown, sampling)
    begin = float(shown[first]) if sampling.start is None else max(sampling.start, float(shown[first]))
    chosen = first + _at_fps(shown[first : last + 1] - begin, sampling.fps)
    cap = (most or sampling.max_frames) // multiple * multiple
    if len(chosen) > cap:
        targets = np.linspace(begin, float(shown[last]), cap)
        even = np.unique(np.searchsorted(shown, targets + ROUNDING, side="right") - 1)
        apart = f", {targets[1] - targets[0]:.2f} s apart" if cap > 1 else ""
        warnings.append(f"capped: {len(even)} of {len(chosen)} frames{apart}")
        chosen = even
    positions = chosen.tolist()
    missing = _fill(positions, last, multiple)
    if missing:
        warnings.append(f"the last frame is repeated {_times(missing)}: frames are encoded {multiple} at a time")
    return Choice(tuple(positions), tuple(warnings))


def _doubts(sampling: Sampling, since: float, over: float) -> Iterator[str]:
    """Warn where the clip's span is not all of what was asked for. Raises `VideoError` where nothing is shown in it.

    `since`, `over`: seconds at which the first frame appears and the last one disappears.
    """
    if sampling.start is not None and sampling.start >= over:
        raise VideoError(
            f"the clip would start at {sampling.start:g} s, but the video ends at {over:.3f} s: start earlier"
        )
    if sampling.end is not None and sampling.end <= since:
        raise VideoError(
            f"the clip would end at {sampling.end:g} s, but the first picture appears at {since:.3f} s: end later"
        )
    if sampling.start is not None and since - sampling.start > LATE:
        yield f"the clip starts with the first picture, at {since:.3f} s: {sampling.start:g} s was asked for"
    if sampling.end is not None and sampling.end > over + ROUNDING:
        yield f"the clip ends with the video at {over:.3f} s, before the end asked for ({sampling.end:g} s)"


def _at_fps(shown: Times, fps: float) -> Positions:
    """Find the frames on display at 0, 1/fps, 2/fps … seconds, each once; `shown`: when each appears, on that clock."""
    tick = np.maximum(np.ceil((shown - ROUNDING) * fps), 0)  # the first one at which the frame is there
    until = np.append(tick[1:], tick[-1] + 1)
    return np.flatnonzero((tick < until) & (tick <= (max(shown[-1], 0.0) + ROUNDING) * fps))


def _span(shown: Times, sampling: Sampling) -> tuple[int, int]:
    """Find the clip's first frame, on display at its start, and its last, the last to appear before its end."""
    first = 0 if sampling.start is None else int(np.searchsorted(shown, sampling.start + ROUNDING, side="right")) - 1
    last = len(shown) - 1 if sampling.end is None else int(np.searchsorted(shown, sampling.end - ROUNDING)) - 1
    first = max(first, 0)
    return first, max(last, first)


def _fill(chosen: list[int], last: int, multiple: int) -> int:
    """Add frames near the end until the count is a `multiple`. Return how many of them are repeats."""
    repeats = 0
    while len(chosen) % multiple:
        between = (chosen[-2] + chosen[-1]) // 2 if len(chosen) > 1 else chosen[-1]
        if chosen[-1] < last:
            chosen.append(last)
        elif len(chosen) > 1 and between > chosen[-2]:
            chosen.insert(-1, between)
        else:
            chosen.append(last)
            repeats += 1
    return repeats


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
