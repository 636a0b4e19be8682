"""A clip: the chosen frames of a video file, an image or an array, in batches that a thread reads ahead."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from ipcv.media.decoders import DecordError, decord_frames, decord_work, pyav_frames, scaled
from ipcv.media.frames import FrameArray, FrameSize, FrameStream, MediaKind, VideoFacts
from ipcv.media.prefetch import ReadAhead
from ipcv.media.probe import IndexedVideo, probe
from ipcv.media.sampling import Choice, Sampling, choose

DECORD_WORK = 4096  # frames that decord may decode for a clip; above, PyAV reads it, which decodes each frame once
Resize = Callable[[int, int, int], FrameSize]  # (height, width) as displayed, frames -> (height, width) wanted


def open_video(
    path: str | Path | IndexedVideo,
    sampling: Sampling | None = None,
    *,
    resize: Resize | None = None,
    frame_batch: int = 16,
    multiple: int = 2,
) -> "Clip":
    """Open a video file as a clip, sampled by timestamp. Its first frame alone is decoded yet.

    `resize(height, width, frames)` gives the size of the frames handed out; their count is a multiple of `multiple`.
    Raises `VideoError` if the file cannot be read or `sampling` starts after its end.
    """
    started = time.perf_counter()
    video = path if isinstance(path, IndexedVideo) else probe(path)
    choice = choose(video.times.tolist(), sampling or Sampling(), duration=video.facts.duration, multiple=multiple)
    spent = time.perf_counter() - started
    return open_chosen(video, choice, resize=resize, frame_batch=frame_batch, multiple=multiple, spent=spent)


def open_chosen(
    video: IndexedVideo,
    choice: Choice,
    *,
    resize: Resize | None = None,
    frame_batch: int = 16,
    multiple: int = 2,
    spent: float = 0.0,
) -> "Clip":
    """A clip of the frames that were chosen of a probed file; `spent`: seconds that this took. Nothing is decoded."""
    _check_batch(frame_batch, multiple)
    size = _size(resize, video.facts.height, video.facts.width, len(choice.positions))
    times = video.times[list(choice.positions)].tolist()
    source = _File(video, size, choice.positions, frame_batch, [*video.warnings, *choice.warnings])
    return Clip(source, times, size, frame_batch, spent=spent)


def clip_from_frames(
    frames: FrameArray,
    times: Sequence[float] | None = None,
    *,
    resize: Resize | None = None,
    frame_batch: int = 16,
    multiple: int = 2,
) -> "Clip":
    """Make a clip of `frames` (uint8 RGB [n, height, width, 3]), shown at `times` seconds (None: two per second)."""
    _check_batch(frame_batch, multiple)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 of shape [n, height, width, 3], not {frames.dtype} {frames.shape}")
    count = len(frames)
    warnings = [] if times is not None else ["no frame times were given: taken as two frames per second"]
    stamps = [index / 2 for index in range(count)] if times is None else [float(stamp) for stamp in times]
    if len(stamps) != count or stamps != sorted(stamps):
        raise ValueError(f"times must be {count} ascending numbers of seconds, one per frame")
    positions = [*range(count), *[count - 1] * (-count % multiple)]
    if len(positions) > count:
        warnings.append(f"the last frame is repeated: frames are encoded {multiple} at a time")
    height, width = frames.shape[1:3]
    size = _size(resize, height, width, len(positions))
    source = _Memory(frames, size, positions, stamps, warnings)
    return Clip(source, [stamps[position] for position in positions], size, frame_batch)


def clip_from_image(
    picture: FrameArray,
    facts: VideoFacts,
    *,
    resize: Resize | None = None,
    multiple: int = 2,
    warnings: Sequence[str] = (),
) -> "Clip":
    """Make a clip of one `picture` (uint8 RGB [height, width, 3]), `multiple` times, as models take an image."""
    height, width = picture.shape[:2]
    size = _size(resize, height, width, multiple)
    source = _Picture(picture, facts, size, multiple, list(warnings))
    return Clip(source, [0.0] * multiple, size, multiple, kind="image")


class Clip:
    """Sampled frames of one video. Iterate for batches; each iteration is a fresh pass over the source.

    >>> with open_video("clip.mp4") as clip:
    ...     for frames in clip:  # uint8 RGB [n, height, width, 3], n = frame_batch, fewer in the last batch
    ...         ...

    While a batch is in use, a thread reads the next one and no further. When iteration ends, by exhaustion, an
    error or `close()`, the thread has ended and the file is closed. Raises `VideoError` where nothing can be decoded.
    """

    def __init__(
        self,
        source: "_Source",
        times: Sequence[float],
        size: FrameSize,
        frame_batch: int,
        *,
        spent: float = 0.0,
        kind: MediaKind = "video",
    ) -> None:
        self.kind = kind  # an image is one frame, handed out as often as the model wants it
        self.times = tuple(times)  # seconds of source time at which each frame handed out appears
        self.size = size  # (height, width) of the frames handed out
        self._source = source
        self._frame_batch = frame_batch
        self._spent = [spent]
        self._pass: ReadAhead | None = None

    @property
    def facts(self) -> VideoFacts:
        """Facts about the video. `reader` names the decoder in use, which is final once iteration has ended."""
        return self._source.facts

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the file and the choice of frames, complete once iteration has ended."""
        return tuple(dict.fromkeys(self._source.warnings))

    @property
    def read_seconds(self) -> float:
        """Seconds that reading has worked so far, opening included and waiting excluded."""
        return sum(self._spent)

    def __iter__(self) -> Iterator[FrameArray]:
        self.close()
        self._pass = current = ReadAhead(self._source.frames, len(self.times), self._frame_batch, self._spent)
        try:
            yield from current
        finally:
            current.close()

    def close(self) -> None:
        """Stop reading and close the file; harmless when nothing is being read."""
        if self._pass is not None:
            self._pass.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Source(Protocol):
    """Where a clip's frames come from."""

    facts: VideoFacts
    warnings: list[str]

    def frames(self) -> FrameStream: ...


class _File:
    """A file read through decord, or through PyAV from where decord fails and where it would take long."""

    def __init__(
        self, video: IndexedVideo, size: FrameSize, positions: Sequence[int], frame_batch: int, warnings: list[str]
    ) -> None:
        self.facts = video.facts
        self.warnings = warnings
        self._video, self._size, self._positions = video, size, positions
        self._batches = [positions[at : at + frame_batch] for at in range(0, len(positions), frame_batch)]
        self._objection = f"decord cannot: {video.objection}" if video.objection else None
        if not self._objection and (work := decord_work(video, self._batches)) > DECORD_WORK:
            self._objection = f"decord would decode and scale {work} frames for the {len(positions)} that are asked for"
            self.facts = replace(video.facts, reader="pyav")

    def frames(self) -> FrameStream:
        done = 0
        if self._objection is None:
            try:
                with closing(decord_frames(self._video, self._size, self._batches)) as stream:
                    for frame in stream:
                        done += 1
                        yield frame
            except DecordError as error:
                self._objection = f"decord cannot: {error}"
        if self._objection is not None:
            yield from self._fall_back(done)

    def _fall_back(self, done: int) -> FrameStream:
        """Read the frames that are left through PyAV."""
        since = f" from frame {done + 1} on" if done else ""
        self.facts = replace(self.facts, reader="pyav")
        self.warnings.append(f"read with PyAV{since}, because {self._objection}")
        gaps: list[int] = []
        try:
            yield from pyav_frames(self._video, self._size, self._positions[done:], gaps)
        finally:
            if gaps:
                first = f"the first at {self._video.times[gaps[0]]:.3f} s"
                count = f"{len(gaps)} of {len(self._positions)} frames"
                self.warnings.append(f"{count} cannot be decoded ({first}): the nearest good one stands in")


class _Memory:
    """Frames in memory."""

    def __init__(
        self, frames: FrameArray, size: FrameSize, positions: Sequence[int], times: Sequence[float], warnings: list[str]
    ) -> None:
        count, height, width = frames.shape[:3]
        span = times[-1] - times[0]
        fps = (count - 1) / span if span > 0 else 0.0
        self.facts = VideoFacts(
            path="",
            duration=times[-1] + (1 / fps if fps else 0.0),
            width=width,
            height=height,
            fps=fps,
            frames=count,
            codec="rawvideo",
            container="memory",
            rotation=0,
            reader="memory",
        )
        self.warnings = warnings
        self._frames, self._size, self._positions = frames, size, positions

    def frames(self) -> FrameStream:
        for position in self._positions:
            yield scaled(self._frames[position], self._size)


class _Picture:
    """One picture in memory, handed out several times."""

    def __init__(
        self, picture: FrameArray, facts: VideoFacts, size: FrameSize, count: int, warnings: list[str]
    ) -> None:
        self.facts, self.warnings = facts, warnings
        self._picture, self._size, self._count = picture, size, count

    def frames(self) -> FrameStream:
        picture = scaled(self._picture, self._size)
        for _ in range(self._count):
            yield picture


def _check_batch(frame_batch: int, multiple: int) -> None:
    if multiple < 1 or frame_batch < 1 or frame_batch % multiple:
        raise ValueError(f"frame_batch must be a multiple of {multiple} above 0, not {frame_batch}")


def _size(resize: Resize | None, height: int, width: int, frames: int) -> FrameSize:
    return resize(height, width, frames) if resize else (height, width)
