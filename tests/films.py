"""Small video files whose pictures say which frame they are."""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10
MILLISECONDS = Fraction(1, 1000)
THIRTY_PER_SECOND = tuple(index / 30 for index in range(90))
UNEVEN = tuple([index * 0.01 for index in range(30)] + [0.3 + index * 0.3 for index in range(30)])
QUIET = {"libx265": {"x265-params": "log-level=error"}, "libsvtav1": {"preset": "11"}, "libvpx-vp9": {"cpu-used": "8"}}


def number_picture(number: int, height: int = 64, width: int = 160) -> np.ndarray:
    """A picture with `number` as black and white bars, the lowest bit leftmost."""
    picture = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        picture[:, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (number >> bit & 1)
    return picture


def number_in(picture: np.ndarray) -> int:
    height, width, _ = picture.shape
    bars = [picture[height // 2, (2 * bit + 1) * width // (2 * BITS)].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, lit in enumerate(bars) if lit)


def film(
    path: Path,
    codec: str = "libx264",
    times: Sequence[float] = THIRTY_PER_SECOND,
    *,
    pictures: Sequence[np.ndarray] | None = None,
    key_every: int = 24,
    pixel_aspect: Fraction | None = None,
    container: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    form: str | None = None,
) -> Path:
    """Write numbered pictures, or those given, to appear at `times`."""
    pictures = pictures or [number_picture(number) for number in range(len(times))]
    with av.open(path, "w", format=form, container_options=container or {}) as output:
        stream = output.add_stream(codec, rate=30, options=QUIET.get(codec, {}) | (options or {}))
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = MILLISECONDS
        stream.codec_context.gop_size = key_every
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), MILLISECONDS
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def sound_only(path: Path) -> Path:
    with av.open(path, "w") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def trimmed(source: Path, target: Path, seconds: float) -> Path:
    """The same packets with the first `seconds` cut away by an edit list: still in the file, but not shown."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(source) as given, av.open(target, "w", container_options=options) as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts -= round(seconds / stream.time_base)
            packet.dts -= round(seconds / stream.time_base)
            packet.stream = copy
            output.mux(packet)
    return target


def turned(source: Path, target: Path, degrees: int) -> Path:
    """The same MP4, to be displayed turned clockwise by `degrees`, as telephones write it."""
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # version and flags, times, track, layer, volume come first
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    struct.pack_into(">9i", content, matrix, cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, one << 14)
    target.write_bytes(content)
    return target


def corner_colours(picture: np.ndarray) -> str:
    """The colours of the four quarters, row by row, as letters."""
    height, width, _ = picture.shape
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    middles = [(row * height // 4, column * width // 4) for row in (1, 3) for column in (1, 3)]
    return "".join(names[tuple(int(value > 127) for value in picture[row, column])] for row, column in middles)


def quarters(height: int, width: int) -> np.ndarray:
    """Red, green / blue, white."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = 255
    return picture


def noise(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
