"""Whole pictures out of interlaced ones, whose odd and even lines were taken at two moments."""

from collections import deque
from collections.abc import Iterator

import av
import av.filter
from av.video.frame import VideoFrame


def deinterlaced(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield one whole picture for each decoded one, at its time; progressive pictures pass unchanged (bwdif).

    As in players, the mark that each picture carries decides.
    """
    deinterlacer: _Deinterlacer | None = None
    for frame in frames:
        if deinterlacer is not None and not deinterlacer.takes(frame):
            yield from deinterlacer.rest()
            deinterlacer = None
        if deinterlacer is None and frame.interlaced_frame:
            deinterlacer = _Deinterlacer(frame)
        if deinterlacer is None:
            yield frame
        else:
            yield from deinterlacer.push(frame)
    if deinterlacer is not None:
        yield from deinterlacer.rest()


class _Deinterlacer:
    """A filter that compares each picture with the ones before and after it, and so is one behind."""

    def __init__(self, frame: VideoFrame) -> None:
        self._shape = frame.width, frame.height, frame.format.name
        self._stamps: deque[int | None] = deque()  # of the pictures that are still inside
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        source.link_to(bwdif)
        bwdif.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def takes(self, frame: VideoFrame) -> bool:
        """Whether the filter was set up for pictures of this size and format."""
        return self._shape == (frame.width, frame.height, frame.format.name)

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Add a picture, and yield those that are done."""
        if frame is not None:
            self._stamps.append(frame.pts)
        self._graph.vpush(frame)
        while self._stamps:
            try:
                done = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            done.pts = self._stamps.popleft()  # the filter counts in ticks of its own
            yield done

    def rest(self) -> Iterator[VideoFrame]:
        """Yield the pictures that are left inside."""
        yield from self.push(None)
