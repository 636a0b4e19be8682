"""How a file's pictures are displayed: found once, from its first decoded frame and its container."""

from collections.abc import Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame

from ipcv.media.display.colors import Colors, ColorTags, colors, tags
from ipcv.media.display.orientation import Orientation, orientation
from ipcv.media.display.scaling import has_alpha, on_white, resized, resized_finely
from ipcv.media.frames import DynamicRange, FrameArray, FrameSize


@dataclass(frozen=True)
class Look:
    """How the pictures of one file are displayed, as players display them."""

    orientation: Orientation
    colors: Colors | None  # None: those of an ordinary screen
    interlaced: bool  # whether a picture's odd and even lines were taken at two moments
    has_alpha: bool  # whether parts may be transparent
    warnings: tuple[str, ...]

    @property
    def dynamic_range(self) -> DynamicRange:
        """Whether bright parts go beyond what an ordinary screen shows, and how they are coded."""
        return self.colors.dynamic_range if self.colors else "sdr"

    @property
    def is_plain(self) -> bool:
        """Whether pictures are displayed as they are stored, and opaque."""
        return self.orientation == Orientation() and not (self.colors or self.interlaced or self.has_alpha)

    def shown(self, frame: VideoFrame, size: FrameSize) -> FrameArray:
        """A decoded picture as it is displayed: upright, scaled to `size`, opaque, RGB [height, width, 3]."""
        stored = self.orientation.stored(size)
        opaque = on_white(frame)
        if self.colors:
            return self.orientation.upright(self.colors.for_screen(resized_finely(opaque, stored, self.colors.matrix)))
        return self.orientation.upright(resized(opaque, stored))


def look_at(frame: VideoFrame, container: ColorTags) -> Look:
    """Find how pictures are displayed, from the first one decoded, and from what the container says of colours."""
    laid = orientation(frame)
    tint = colors(tags(frame), container)
    return Look(laid, tint, frame.interlaced_frame, has_alpha(frame), tuple(_warnings(laid, tint)))


def _warnings(laid: Orientation, tint: Colors | None) -> Iterator[str]:
    if not laid.exact:
        yield f"turned by an odd angle: shown at the nearest quarter turn ({laid.rotation}°)"
    if tint and tint.dynamic_range != "sdr":
        yield f"HDR ({tint.dynamic_range.upper()}): mapped to the range of an ordinary screen, highlights are dimmed"
