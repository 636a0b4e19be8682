"""Scaling a picture to a wanted size."""

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ipcv.media.frames import FrameArray, FrameSize


def scaled(picture: FrameArray, size: FrameSize) -> FrameArray:
    """Scale a picture [height, width, 3] in memory as one from a file is scaled."""
    if picture.shape[:2] == size:
        return picture
    return resized(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), size)


def resized(frame: VideoFrame, size: FrameSize) -> FrameArray:
    """Scale a decoded picture (bicubic): RGB [height, width, 3]."""
    return np.asarray(_reformatted(frame, size, "rgb24"), dtype=np.uint8)


def resized_finely(frame: VideoFrame, size: FrameSize, matrix: int | None) -> NDArray[np.uint16]:
    """Scale a decoded picture: RGB [height, width, 3] of 16 bits. `matrix`: that of its YUV, if not as it says."""
    return np.asarray(_reformatted(frame, size, "rgb48le", matrix), dtype=np.uint16)


def on_white(frame: VideoFrame) -> VideoFrame:
    """Lay a decoded picture's transparent parts on white, as those of stills. Its colours are taken as not yet faded.

    This comes before scaling: the colours of parts that are not seen would run into the others.
    """
    if not has_alpha(frame):
        return frame
    picture = _reformatted(frame, (frame.height, frame.width), "rgba")
    seen = picture[..., 3:].astype(np.uint16)
    mixed = (picture[..., :3] * seen + 255 * (255 - seen) + 127) // 255
    return VideoFrame.from_ndarray(mixed.astype(np.uint8), format="rgb24")


def has_alpha(frame: VideoFrame) -> bool:
    """Whether parts of a decoded picture may be transparent."""
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def _reformatted(frame: VideoFrame, size: FrameSize, form: str, matrix: int | None = None) -> NDArray[Any]:
    height, width = size
    scaled = frame.reformat(
        width=width, height=height, format=form, src_colorspace=matrix, interpolation="BICUBIC", threads=1
    )
    return scaled.to_ndarray()
