"""Where a clip's frames come from: a video file through decord or PyAV, an array in memory, or one picture."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from ipcv.media.display.scaling import scaled
from ipcv.media.frames import FrameArray, FrameSize, FrameStream, VideoFacts
from ipcv.media.video.decoders import DecordError, decord_frames, decord_work, pyav_frames
from ipcv.media.video.probe import IndexedVideo

DECORD_WORK = 4096  # frames that decord may decode for a clip; above, PyAV reads it, which decodes each frame once


class FrameSource(Protocol):
    """Where a clip's frames come from."""

    facts: VideoFacts
    warnings: list[str]

    def frames(self) -> FrameStream:
        """Read all chosen frames once, one after the other, at the size asked for."""
        ...


class FileFrames:
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
        """Read the file's chosen frames, through decord where it can; through PyAV from where decord fails."""
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
