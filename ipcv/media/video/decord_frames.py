"""Every frame of a short file through decord, which needs as much time for that as PyAV, or a little less.

decord does not say which frame it hands out, and its seeks land on wrong ones. So it reads files from the first frame
to the last, and none is handed out before as many have come as the file holds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ipcv.media.frames import FrameArray, FrameSize
from ipcv.media.video.probe import IndexedVideo

ROOM = 64 << 20  # bytes of pictures that are held at once
CONTAINERS = frozenset({"mov", "matroska"})
CODECS = frozenset({"av1", "h264", "vp8", "vp9"})  # decord loses frames of others
ROUNDING = 2e-3  # seconds between the times of decord's index and ours


class DecordError(Exception):
    """decord failed on this file; PyAV may still read it."""


def suits(video: IndexedVideo, size: FrameSize, positions: Sequence[int]) -> bool:
    """Whether the frames at `positions` are all that a file holds, and decord shows such a file as PyAV does."""
    frames, (height, width) = len(video.times), size
    index = video.index
    return (
        sorted(set(positions)) == list(range(frames))
        and frames * height * width * 3 <= ROOM
        and video.look.is_plain
        and not (index.counted or index.jumps or index.damaged)
        and len(index.rank) == frames  # no packet is hidden or holds half a frame
        and video.facts.container.split(",")[0] in CONTAINERS
        and video.facts.codec in CODECS
    )


def every_frame(video: IndexedVideo, size: FrameSize) -> list[FrameArray]:
    """Read all frames [height, width, 3] of a file. Raises `DecordError`."""
    height, width = size
    with _reasons():
        import decord  # only some files need it

        decord.logging.set_level(decord.logging.QUIET)
        # a fault tolerance of next to nothing: an error instead of a neighbour's copy
        reader = decord.VideoReader(str(video.path.absolute()), width=width, height=height, fault_tol=1e-9)
        _check_times(reader, video)
        frames: list[FrameArray] = [frame.asnumpy() for frame in _all(reader)]
    if len(frames) != len(video.times) or any(frame.shape != (height, width, 3) for frame in frames):
        raise DecordError(f"it returned {len(frames)} of {len(video.times)} frames")
    return frames


def _check_times(reader: Any, video: IndexedVideo) -> None:
    stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    times = video.times - video.times[0]
    if len(stamps) != len(times) or not np.allclose(stamps - stamps[0], times, rtol=1e-6, atol=ROUNDING):
        raise DecordError("its frame index differs from the file's")


def _all(reader: Any) -> Iterator[Any]:
    while True:
        try:
            frame = reader.next()
        except StopIteration:
            return
        yield frame


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn every error of decord into a `DecordError`."""
    try:
        yield
    except (DecordError, MemoryError):
        raise
    except Exception as error:
        raise DecordError(str(error)) from error
