"""Types for everything that reads media: facts about a video, and pictures as arrays."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MediaKind = Literal["video", "image"]
DynamicRange = Literal["sdr", "pq", "hlg"]


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video. Sizes are as displayed: turned upright, with square pixels."""

    path: str
    duration: float  # seconds until the last frame disappears
    width: int
    height: int
    fps: float  # average frames per second; 0 where a single frame says nothing
    frames: int
    codec: str
    container: str
    rotation: int  # degrees clockwise by which the stored picture is turned for display
    reader: str  # "decord", "pyav", "pillow" or "memory": what hands out the frames
    mirrored: bool = False  # whether the stored picture is mirrored, before it is turned
    interlaced: bool = False  # whether its pictures are two half pictures each, made whole for display
    dynamic_range: DynamicRange = "sdr"  # "pq" and "hlg" are mapped to what an ordinary screen shows


FrameArray = NDArray[np.uint8]
FrameSize = tuple[int, int]  # height, width
FrameStream = Generator[FrameArray, None, None]  # one picture [height, width, 3] after the other
