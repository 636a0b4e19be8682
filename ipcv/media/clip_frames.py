"""Where a clip's frames come from: a video file, an array in memory, or one picture."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ipcv.media.display.scaling import scaled
from ipcv.media.frames import FrameArray, FrameSize, FrameStream, VideoFacts
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.decord_frames import DecordError, every_frame, suits
from ipcv.media.video.probe import IndexedVideo


class FrameSource(Protocol):
    """Where a clip's frames come from."""

    facts: VideoFacts
    warnings: list[str]

    def frames(self) -> FrameStream:
        """Read all chosen frames once, one after the other, at the size asked for."""
        ...


class FileFrames:
    """Frames of a video file: through decord if all of a short file is wanted and decord can, else through PyAV."""

    def __init__(self, video: IndexedVideo, size: FrameSize, positions: Sequence[int], warnings: list[str]) -> None:
        self.facts = video.facts
        self.warnings = warnings
        self._video, self._size, self._positions = video, size, positions
        if suits(video, size, positions):
            self.facts = replace(self.facts, reader="decord")

    def frames(self) -> FrameStream:
        """Decode the file's chosen frames."""
        if self.facts.reader == "decord":
            try:
                every = every_frame(self._video, self._size)
            except DecordError:
                self.facts = replace(self.facts, reader="pyav")
            else:
                yield from (every[position] for position in self._positions)
                return
        yield from self._through_pyav()

    def _through_pyav(self) -> FrameStream:
        gaps: list[int] = []
        try:
            yield from chosen_frames(self._video, self._size, self._positions, gaps)
        finally:
            if gaps:
                first = f"the first at {self._video.times[gaps[0]]:.3f} s"
                count = f"{len(gaps)} of {len(self._positions)} frames"
                self.warnings.append(f"{count} cannot be decoded ({first}): the nearest good one stands in")


class MemoryFrames:
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
        """Scale the chosen frames of the array, one after the other."""
        for position in self._positions:
            yield scaled(self._frames[position], self._size)


class PictureFrames:
    """One picture in memory, handed out several times."""

    def __init__(
        self, picture: FrameArray, facts: VideoFacts, size: FrameSize, count: int, warnings: list[str]
    ) -> None:
        self.facts, self.warnings = facts, warnings
        self._picture, self._size, self._count = picture, size, count

    def frames(self) -> FrameStream:
        """Scale the picture once, and hand it out as often as it is wanted."""
        picture = scaled(self._picture, self._size)
        for _ in range(self._count):
            yield picture
