"""How a file's pictures are displayed: found once, from the stream and its first decoded frame."""

from collections.abc import Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ipcv.media.display.orientation import Orientation, orientation
from ipcv.media.display.scaling import resized
from ipcv.media.frames import DynamicRange, FrameArray, FrameSize

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273


@dataclass(frozen=True)
class Look:
    """How the pictures of one file are displayed, as players display them."""

    orientation: Orientation
    dynamic_range: DynamicRange
    needs_pyav: str | None  # why decord would display them otherwise
    warnings: tuple[str, ...]

    def through(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield the decoded pictures of a stream, one for one, with whole lines where two half pictures are woven."""
        return frames

    def shown(self, frame: VideoFrame, size: FrameSize) -> FrameArray:
        """A decoded picture as it is displayed: upright, scaled to `size`, RGB [height, width, 3]."""
        stored = resized(frame, self.orientation.stored(size))
        return self.orientation.upright(stored)


def look_at(stream: VideoStream, frame: VideoFrame) -> Look:
    """Find how the pictures of `stream` are displayed; `frame` is the first one decoded."""
    laid = orientation(frame)
    needs_pyav = "it does not mirror pictures" if laid.mirrored else None
    warnings = () if laid.exact else (f"turned by an odd angle: shown at the nearest quarter turn ({laid.rotation}°)",)
    transfer = stream.codec_context.color_trc
    dynamic_range: DynamicRange = "pq" if transfer == PQ else "hlg" if transfer == HLG else "sdr"
    return Look(laid, dynamic_range, needs_pyav, warnings)
