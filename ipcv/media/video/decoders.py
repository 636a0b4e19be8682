"""Decoding chosen frames of a video at a wanted size, by decord or by PyAV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ipcv.errors import VideoError
from ipcv.media.frames import FrameArray, FrameSize, FrameStream
from ipcv.media.video.container import open_container, pictures, video_stream
from ipcv.media.video.probe import IndexedVideo
from ipcv.text import shown

Gaps = list[int]  # positions of frames that could not be decoded
Stamped = tuple[int, VideoFrame]  # ticks, picture


class DecordError(Exception):
    """decord failed on this file; PyAV may still read it."""


def decord_frames(video: IndexedVideo, size: FrameSize, batches: Sequence[Sequence[int]]) -> FrameStream:
    """Yield the frames [height, width, 3] at ascending positions through decord. Raises `DecordError`.

    decord decodes ahead into memory without limit while nobody takes its frames, so it is stopped before the last frame
    of a batch is handed out. The next batch is decoded from its key frame on: `decord_work` says what that comes to.
    """
    reader = _DecordReader(video, size)
    for batch in batches:
        for count, position in enumerate(batch, start=1):
            frame = reader.at(position)
            if count == len(batch):
                reader.rest()
            yield frame


def decord_work(video: IndexedVideo, batches: Sequence[Sequence[int]]) -> int:
    """Count the frames that `decord_frames` decodes and scales on its way to the wanted ones."""
    keys = np.union1d(0, np.searchsorted(video.pts, video.keys))
    work = 0
    for batch in batches:
        wanted = np.unique(batch)
        since = keys[np.searchsorted(keys, wanted, side="right") - 1]
        reached = np.append(0, wanted[:-1] + 1)  # the first frame that is not decoded yet
        work += int(np.sum(wanted + 1 - np.maximum(since, reached)))
    return work


class _DecordReader:
    """A decord decoder that moves forward to wanted frames, and jumps to a key frame where that saves decoding.

    It takes every frame on the way: decord's own skipping (`get_batch`, `seek_accurate`) gives up without an error
    when the decoder is slow, as on a busy machine, and hands out whichever frame comes next.
    """

    def __init__(self, video: IndexedVideo, size: FrameSize) -> None:
        self._size = size
        with _reasons():
            self._reader = _decord_reader(video, size)
            self._keys = np.array(self._reader.get_key_indices())
        self._next = 0  # the position of the frame that comes next
        self._frame: Any = None  # the one before it

    def at(self, position: int) -> FrameArray:
        """Decode up to `position`, which is not before the last one asked for, and return the frame there."""
        with _reasons():
            key = int(self._keys[np.searchsorted(self._keys, position, side="right") - 1])
            if key > self._next:
                self._reader.seek(key)
                self._next = key
            while self._next <= position:
                self._frame = self._reader.next()
                self._next += 1
            frame: FrameArray = self._frame.asnumpy()
        if frame.shape != (*self._size, 3):
            raise DecordError(f"it returned a frame of shape {frame.shape}")
        return frame

    def rest(self) -> None:
        """Stop decoding ahead. Any frame may be asked for next."""
        with _reasons():
            self._reader.seek(0)  # ends decord's decoding thread; it starts again with the next frame
        self._next = 0


def _decord_reader(video: IndexedVideo, size: FrameSize) -> Any:
    import torch  # noqa: F401 - some builds crash when decord is imported before torch
    import decord  # isort: skip

    decord.logging.set_level(decord.logging.QUIET)
    height, width = size
    # a fault tolerance of next to nothing: an error instead of a neighbour's copy
    reader = decord.VideoReader(str(video.path.absolute()), width=width, height=height, fault_tol=1e-9)
    stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    since_first = video.times - video.times[0]
    if len(stamps) != len(since_first) or not np.allclose(stamps - stamps[0], since_first, rtol=1e-6, atol=2e-3):
        raise DecordError("its frame index differs from the file's")
    if not _even(since_first):
        raise DecordError("it seeks to the wrong frame where frames are unevenly timed")
    return reader


def _even(times: NDArray[np.float64]) -> bool:
    """Whether frames follow each other at one rate, apart from rounding to milliseconds."""
    ideal = np.linspace(times[0], times[-1], len(times))
    apart = (times[-1] - times[0]) / max(len(times) - 1, 1)
    return bool(np.all(np.abs(times - ideal) <= 0.1 * apart + 1e-3))


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn every error of decord into a `DecordError` of one line."""
    try:
        yield
    except DecordError:
        raise
    except StopIteration as error:
        raise DecordError("it found no more frames") from error
    except UnicodeEncodeError as error:
        raise DecordError("its name is not valid text") from error
    except Exception as error:
        raise DecordError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """Cut the source position and the stack off decord's message."""
    lines = [line.rsplit(": ", 1)[-1].strip() for line in str(error).splitlines()]
    return shown(next((line for line in lines if len(line) > 1), type(error).__name__))[:160]


def pyav_frames(video: IndexedVideo, size: FrameSize, positions: Sequence[int], gaps: Gaps) -> FrameStream:
    """Yield the frames [height, width, 3] at ascending positions through PyAV.

    A frame that cannot be decoded is replaced by the one before it (or after it, at the start) and noted in `gaps`.
    Raises `VideoError` where nothing can be decoded.
    """
    stream = _Stream(video)
    try:
        for position in positions:
            wanted = int(video.pts[position])
            stamp, frame = stream.at(wanted)
            if stamp != wanted:
                gaps.append(position)
            yield video.look.shown(frame, size)
    finally:
        stream.close()


class _Stream:
    """A PyAV decoder that moves forward to wanted frames, and jumps to a key frame where that saves decoding."""

    def __init__(self, video: IndexedVideo) -> None:
        self._video = video
        self._seeks = video.exact
        self._tried = -1  # the last key frame sought
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._video.path)
        self._stream = video_stream(self._container, self._video.path)
        self._restart()

    def _restart(self) -> None:
        self._frames = self._stamped()
        self._now: Stamped | None = None  # the last frame at or before the wanted one
        self._next: Stamped | None = next(self._frames, None)

    def _stamped(self) -> Iterator[Stamped]:
        """Yield decoded frames with their ticks: their own, or those of the index by counting where they have none."""
        decoded = pictures(self._container, self._stream)
        for count, frame in enumerate(self._video.look.through(decoded)):
            if not self._video.exact:
                yield int(self._video.pts[min(count, len(self._video.pts) - 1)]), frame
            elif frame.pts is not None:
                yield frame.pts, frame

    def close(self) -> None:
        self._container.close()

    def at(self, wanted: int) -> Stamped:
        """Find the frame on display at `wanted` ticks (not before the last one asked for), else the first after it."""
        self._skip_to(wanted - self._video.look.interlaced)  # deinterlacing takes the picture before as well
        while self._next is not None and self._next[0] <= wanted:
            self._now, self._next = self._next, next(self._frames, None)
        found = self._now or self._next
        if found is None:
            raise VideoError(f"{shown(self._video.path)} holds no frame here that can be decoded: try another start")
        return found

    def _skip_to(self, wanted: int) -> None:
        """Seek to the last key frame at or before `wanted` if it is still ahead."""
        keys = self._video.keys
        key = int(np.searchsorted(keys, wanted, side="right")) - 1
        reached = self._next or self._now
        if not self._seeks or key <= self._tried or (reached is not None and keys[key] <= reached[0]):
            return
        self._tried = key
        before = self._now
        for back in (0, 1, 3, 7):  # a seek may land late; then an earlier key frame is the way
            if key - back < 0 or not self._seek(int(keys[key - back])):
                break
            if self._next is not None and self._next[0] <= wanted:
                return
        self._seeks = False
        self.close()
        self._open()
        self._now = before

    def _seek(self, stamp: int) -> bool:
        try:
            self._container.seek(stamp, stream=self._stream)
        except av.error.FFmpegError:
            return False
        self._restart()
        return True
