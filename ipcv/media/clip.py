"""A clip: the chosen frames of a video file, an image or an array, in batches that a thread reads ahead."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ipcv.media.clip_frames import FileFrames, FrameSource, MemoryFrames, PictureFrames
from ipcv.media.frames import FrameArray, FrameSize, MediaKind, VideoFacts
from ipcv.media.prefetch import ReadAhead
from ipcv.media.sampling import Choice, Sampling, choose
from ipcv.media.video.probe import IndexedVideo, probe

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
    source = FileFrames(video, size, choice.positions, [*video.warnings, *choice.warnings])
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
    source = MemoryFrames(frames, size, positions, stamps, warnings)
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
    source = PictureFrames(picture, facts, size, multiple, list(warnings))
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
        source: "FrameSource",
        times: Sequence[float],
        size: FrameSize,
        frame_batch: int,
        *,
        spent: float = 0.0,
        kind: MediaKind = "video",
        interrupt: Callable[[], object] = lambda: None,
    ) -> None:
        self.kind = kind  # an image is one frame, handed out as often as the model wants it
        self.times = tuple(times)  # seconds of source time at which each frame handed out appears
        self.size = size  # (height, width) of the frames handed out
        self._source = source
        self._frame_batch = frame_batch
        self._spent = [spent]
        self._interrupt = interrupt  # ends a wait for frames in another thread
        self._pass: ReadAhead | None = None

    def through(self, source: Callable[["FrameSource"], "FrameSource"], interrupt: Callable[[], object]) -> "Clip":
        """This clip, its frames read by what `source` makes of the source that reads them here.

        `interrupt` is called from another thread when frames that are being waited for are no longer wanted.
        """
        return Clip(
            source(self._source),
            self.times,
            self.size,
            self._frame_batch,
            spent=self._spent[0],
            kind=self.kind,
            interrupt=interrupt,
        )

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
        self._pass = current = ReadAhead(
            self._source.frames, len(self.times), self._frame_batch, self._spent, self._interrupt
        )
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


def _check_batch(frame_batch: int, multiple: int) -> None:
    if multiple < 1 or frame_batch < 1 or frame_batch % multiple:
        raise ValueError(f"frame_batch must be a multiple of {multiple} above 0, not {frame_batch}")


def _size(resize: Resize | None, height: int, width: int, frames: int) -> FrameSize:
    return resize(height, width, frames) if resize else (height, width)
