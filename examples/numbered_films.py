"""Films of many kinds (container, codec, B-frames, edit list, groups), in which each frame shows its number."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # errors only
BITS, RATE = 12, 30
SIZE = 96, 192  # height, width
_X264 = {"preset": "veryfast", "crf": "18"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=error:bframes=3:open-gop=1:keyint=40:min-keyint=40"}


@dataclass(frozen=True)
class Kind:
    """How a film is written."""

    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = ()  # of the encoder
    container: tuple[tuple[str, str], ...] = ()  # options of the container
    group: int = 48  # frames from one key frame to the next
    pixels: str = "yuv420p"


def h264(*container: tuple[str, str], bframes: int = 3, params: str = "") -> Kind:
    """A film by x264 with at most `bframes` B-frames in a row."""
    options = {**_X264, "bf": str(bframes), **({"x264-params": params} if params else {})}
    return Kind("libx264", tuple(options.items()), container)


FRAGMENTED = ("movflags", "frag_keyframe+empty_moov")
KINDS = {
    "h264.mp4": h264(bframes=0),
    "h264-b.mp4": h264(),
    "h264-b-no-edit-list.mp4": h264(("use_editlist", "0")),
    "h264-b-fragmented.mp4": h264(FRAGMENTED),
    "h264-b-open.mp4": h264(params="open-gop=1"),
    "h264-b-open-no-edit-list.mp4": h264(("use_editlist", "0"), params="open-gop=1"),
    "h264-refresh.ts": h264(params="intra-refresh=1:keyint=40"),
    "h264-b.mov": h264(),
    "h264-b-open.mkv": h264(params="open-gop=1"),
    "h264-b.ts": h264(),
    "h264-b-open.ts": h264(params="open-gop=1"),
    "h264-b.flv": h264(),
    "h264.avi": h264(bframes=0),
    "hevc-open.mp4": Kind("libx265", tuple(_X265.items())),
    "hevc-open-fragmented.mp4": Kind("libx265", tuple(_X265.items()), (FRAGMENTED,)),
    "hevc-open.mkv": Kind("libx265", tuple(_X265.items())),
    "vp8.webm": Kind("libvpx", (("cpu-used", "8"), ("auto-alt-ref", "1"), ("lag-in-frames", "16"))),
    "vp9.webm": Kind("libvpx-vp9", (("cpu-used", "8"), ("auto-alt-ref", "1"), ("lag-in-frames", "16"))),
    "av1.mp4": Kind("libsvtav1", (("preset", "8"), ("crf", "10"))),
    "mpeg2-b.mpg": Kind("mpeg2video", (("bf", "2"), ("qscale", "4"))),
    "mpeg2-b.ts": Kind("mpeg2video", (("bf", "2"), ("qscale", "4"))),
    "mpeg4-b.avi": Kind("mpeg4", (("bf", "2"), ("qscale", "4"))),
    "mjpeg.mov": Kind("mjpeg", (), (), 1, "yuvj420p"),
}


def picture(number: int) -> np.ndarray:
    """A picture with `number` as black and white bars, in Gray code: one bar changes at a time."""
    height, width = SIZE
    lit = [255 * ((number ^ number >> 1) >> bit & 1) for bit in range(BITS)]
    return np.repeat(np.tile(np.repeat(np.uint8(lit), width // BITS), (height, 1))[..., None], 3, axis=2)


def number_in(picture: np.ndarray) -> int:
    """The number that a picture shows."""
    height, width, _ = picture.shape
    bars = [picture[height // 2, (2 * bit + 1) * width // (2 * BITS)].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit in range(BITS) if sum(bars[bit:]) % 2)


def write(path: Path, kind: Kind, numbers: Sequence[int]) -> Path:
    """Write numbered pictures, 30 a second."""
    with av.open(path, "w", container_options=dict(kind.container)) as output:
        stream = output.add_stream(kind.codec, rate=RATE, options=dict(kind.options))
        stream.height, stream.width = SIZE
        stream.pix_fmt = kind.pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.gop_size = kind.group
        for count, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def joined(path: Path, parts: Sequence[Path]) -> Path:
    """One file after the other, as `cat` writes them: times start again."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def in_decoding_order(path: Path, source: Path) -> Path:
    """The same packets, each displayed when it is decoded, as raw H.264 is put into a container."""
    with av.open(str(source)) as given, av.open(path, "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for count, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
            packet.pts, packet.dts, packet.duration = count, count, 1
            packet.time_base, packet.stream = Fraction(1, RATE), copy
            output.mux(packet)
    return path


def films(folder: Path, count: int) -> Iterator[tuple[str, Path, list[int]]]:
    """Write a film of each kind; yield its name, the file, and the number of each frame on display."""
    numbers = list(range(count))
    for name, kind in KINDS.items():
        yield name, write(folder / name, kind, numbers), numbers
    later = [1000 + number for number in numbers]
    for kind in ("h264-b.ts", "mpeg2-b.mpg"):
        second = write(folder / f"second-{kind}", KINDS[kind], later)
        both = joined(folder / f"joined-{kind}", [folder / kind, second])
        yield both.name, both, numbers + later
    raw = in_decoding_order(folder / "decoding-order.mkv", folder / "h264-b.mp4")
    yield raw.name, raw, numbers
