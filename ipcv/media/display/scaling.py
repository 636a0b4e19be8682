"""Scaling a picture to a wanted size."""

from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from ipcv.media.frames import FrameArray, FrameSize

ONE_THREAD: dict[str, Any] = {} if av.__version__.startswith("15.") else {"threads": 1}  # PyAV 15 has no other way


def scaled(picture: FrameArray, size: FrameSize) -> FrameArray:
    """Scale a picture [height, width, 3] in memory as one from a file is scaled."""
    if picture.shape[:2] == size:
        return picture
    return resized(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), size)


def resized(frame: VideoFrame, size: FrameSize) -> FrameArray:
    """Scale a decoded picture as decord does (bicubic): RGB [height, width, 3]."""
    height, width = size
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC", **ONE_THREAD)
    return np.asarray(scaled.to_ndarray(), dtype=np.uint8)
