"""Tiny whole videos, each of another container and codec: what faults are injected into."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COUNT = 12  # frames


@dataclass(frozen=True)
class Seed:
    """How one kind of file is written."""

    ending: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)  # of the codec
    container: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    rate: int = 10

    @property
    def name(self) -> str:
        """As a file is called."""
        return f"{'-'.join([self.codec, *self.container])}.{self.ending}"

    def write(self, path: Path, count: int = COUNT) -> Path:
        """A video of `count` frames in which a red bar grows."""
        with av.open(path, "w", container_options=self.container) as output:
            stream = output.add_stream(self.codec, rate=self.rate, options=self.options)
            stream.width, stream.height = self.size
            stream.pix_fmt, stream.codec_context.gop_size = self.pixels, 4
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(picture(number, *self.size), format="rgb24")
                frame = frame.reformat(format=self.pixels)
                frame.pts, frame.time_base = number, Fraction(1, self.rate)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return path


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Frame `number`."""
    pixels = np.full((height, width, 3), 20 * number, np.uint8)
    pixels[:, : 5 * number] = (255, 0, 0)
    return pixels


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
SEEDS = [
    Seed("mp4", "libx264", {"bf": "2"}),
    Seed("mp4", "libx264", {"bf": "2"}, FRAGMENTS),
    Seed("mp4", "libx265", {"x265-params": "log-level=error"}),
    Seed("mov", "prores", pixels="yuv422p10le"),
    Seed("mkv", "libvpx-vp9", {"cpu-used": "8"}),
    Seed("webm", "libvpx", {"cpu-used": "8"}),
    Seed("avi", "mpeg4"),
    Seed("avi", "mjpeg", pixels="yuvj420p"),
    Seed("ts", "mpeg2video", rate=25),
    Seed("mpg", "mpeg1video", rate=25),
    Seed("flv", "flv"),
    Seed("3gp", "h263", size=(176, 144)),
    Seed("wmv", "wmv2"),
    Seed("gif", "gif", pixels="rgb8"),
    Seed("m4v", "mpeg4"),
]
Make = Callable[[str], Path]
