"""Which side of a stored picture is up: quarter turns and mirrors, from a file's display matrix."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

from ipcv.media.frames import FrameArray, FrameSize


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is laid out for display: first mirrored, then turned."""

    mirrored: bool = False  # left and right change places
    rotation: int = 0  # then turned clockwise: 0, 90, 180 or 270 degrees
    exact: bool = True  # whether the file asks for just this, and no odd angle

    def stored(self, size: FrameSize) -> FrameSize:
        """The size before the turn of a picture that is displayed at `size`, and the other way round."""
        return size[::-1] if self.rotation % 180 else size

    def upright(self, picture: FrameArray) -> FrameArray:
        """Mirror and turn a stored picture [height, width, 3]."""
        straight = picture[:, ::-1] if self.mirrored else picture
        return np.ascontiguousarray(np.rot90(straight, -self.rotation // 90))


def orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix of a decoded picture; an odd angle becomes the nearest quarter turn."""
    attached = cast(Mapping[Type, SideData], frame.side_data)  # PyAV declares it as something else
    matrix = attached.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = struct.unpack_from("=5i", matrix)  # x, y go to a x + c y, b x + d y; y points down
    straight, turned = abs(a) + abs(d), abs(b) + abs(c)
    exact = min(straight, turned) <= 0.02 * max(straight, turned)
    if turned > straight:  # rows become columns
        return Orientation(mirrored=(b < 0) == (c < 0), rotation=90 if c < 0 else 270, exact=exact)
    return Orientation(mirrored=(a < 0) != (d < 0), rotation=180 if d < 0 else 0, exact=exact)
