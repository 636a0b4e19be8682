"""What a video file holds, known before a reader opens it: facts, frame times, and clear words for what is wrong."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ipcv.errors import VideoError

_INDEXED = ("mov", "mp4", "matroska", "webm")  # containers that decord can seek in
_STEADY = ("av1", "h264", "vp8", "vp9")  # codecs that decord decodes without losing frames


@dataclass(frozen=True)
class VideoFacts:
    """What the video is. Sizes are as displayed: turned upright, with square pixels."""

    path: str
    duration: float  # seconds until the last frame disappears
    width: int
    height: int
    fps: float  # average frames per second; 0 where a single frame says nothing
    frames: int
    codec: str
    container: str
    rotation: int  # degrees clockwise by which the stored picture is turned for display
    reader: str  # "decord", "pyav" or "memory": what hands out the frames


@dataclass(frozen=True, eq=False)
class Video:
    """A readable video file and its frame index, in display order."""

    path: Path
    facts: VideoFacts
    pts: NDArray[np.int64]  # [frames] when each appears, in ticks; dts where the container keeps no pts
    keys: NDArray[np.int64]  # those of the frames that decode on their own
    times: NDArray[np.float64]  # [frames] the same in seconds of source time
    exact: bool  # whether pts are what decoded frames will carry
    warnings: tuple[str, ...]
    objection: str | None  # why decord would hand out wrong frames of this file


@dataclass(frozen=True)
class _Packets:
    """One pass over the compressed stream."""

    pts: list[int]
    keys: list[int]
    exact: bool
    hidden: int  # frames the file holds but does not show (cut away by an edit list)
    leading: int  # frames decoded after a key frame but shown before it
    last: int  # ticks for which the last frame stays


def probe(path: str | Path) -> Video:
    """Open, index (without decoding) and decode one frame of a video file. Raises `VideoError`."""
    path = Path(path)
    _check_file(path)
    try:
        with open_container(path) as container:
            stream = video_stream(container, path)
            packets = _index(container, stream)
        with open_container(path) as container:
            stream = video_stream(container, path)
            frame = next(decodable(container, stream), None)
            if frame is None or not packets.pts:
                raise VideoError(f"{shown(path)} holds no {stream.codec_context.name} frame that can be decoded")
            return _describe(path, container, stream, packets, round(-frame.rotation / 90) * 90 % 360)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(_explain(path, error)) from error


def open_container(path: Path) -> InputContainer:
    """The file by its absolute path, so that no name is taken for a protocol, with any bytes in its tags."""
    return av.open(str(path.absolute()), metadata_errors="replace")


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The main moving-picture stream, decoding in a few threads. Raises `VideoError` if there is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = ", ".join(sorted({str(other.type) for other in container.streams if other is not stream}))
        raise VideoError(f"{shown(path)} has no video stream, only {kinds or 'other data'}: give a file with pictures")
    if container.format.name == "tty":
        raise VideoError(f"{shown(path)} is a text file, not a video")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(os.cpu_count() or 1, 4)  # each further thread holds one more full frame
    return stream


def decodable(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames that can be decoded, in display order from here on: damaged packets are passed over."""
    packets = container.demux(stream)
    while True:
        frames: list[VideoFrame] = []
        with suppress(av.error.FFmpegError):
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        yield from frames


def shown(path: str | Path) -> str:
    """A file name that is safe to print: control characters and undecodable bytes appear as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def _check_file(path: Path) -> None:
    """Raise `VideoError` unless `path` is a readable, non-empty file."""
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise VideoError(f"{name} is a folder, not a video: give one file")
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{name} is not a regular file: save the video to a file first")
        if not status.st_size:
            raise VideoError(f"{name} is empty: copy or download it again")
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise VideoError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    """One line: what, why, what would work."""
    name = shown(path)
    if isinstance(error, FileNotFoundError):
        hint = "download the video first" if "://" in str(path) or ":/" in str(path) else "check the path"
        return f"{name} does not exist: {hint}"
    if isinstance(error, PermissionError):
        return f"{name} may not be read: ask for permission (chmod +r) or copy it"
    if isinstance(error, av.error.InvalidDataError):
        return f"{name} {_damage(path)}"
    return f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}"


def _damage(path: Path) -> str:
    """What an unreadable file looks like from its first bytes."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "is cut off or was never finished (MP4 without its index): copy, download or record it again"
    if not set(head) & set(range(8)):
        return "is a text file, not a video"
    return "is not a video file, or is damaged: try to play it, or convert it with ffmpeg"


def _index(container: InputContainer, stream: VideoStream) -> _Packets:
    """When every frame is shown, from the packets alone."""
    pts: list[int] = []
    keys: list[int] = []
    stamps_missing = hidden = leading = lasts = 0
    key: int | None = None
    for packet in container.demux(stream):
        if not packet.size:
            continue  # the flush at the end, or a filler
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            stamps_missing += 1
            continue
        stamps_missing += packet.pts is None
        if packet.is_keyframe:
            key = stamp
            keys.append(stamp)
        elif key is not None and stamp < key:
            leading += 1
        if packet.is_discard:
            hidden += 1
            continue
        if not pts or stamp > pts[-1]:
            lasts = packet.duration or 0
        pts.append(stamp)
    return _Packets(sorted(pts), sorted(keys), not stamps_missing, hidden, leading, lasts)


def _describe(path: Path, container: InputContainer, stream: VideoStream, packets: _Packets, rotation: int) -> Video:
    """The index in source time, and the facts as a player would show them."""
    tick = stream.time_base or Fraction(1, av.time_base)
    pts = np.array(packets.pts, dtype=np.int64)
    origin = (container.start_time or 0) / av.time_base if packets.exact else float(pts[0] * tick)
    times = np.maximum(pts * float(tick) - origin, 0.0)
    span = float(times[-1] - times[0])
    fps = (len(times) - 1) / span if span > 0 else float(stream.average_rate or 0)
    last = float(packets.last * tick) or (1 / fps if fps else 0.0)
    width, height = stream.codec_context.width, stream.codec_context.height
    width = max(round(width * (stream.sample_aspect_ratio or 1)), 1)
    if rotation % 180:
        width, height = height, width
    objection = _objection(container, stream, packets)
    facts = VideoFacts(
        path=str(path),
        duration=float(times[-1]) + last,
        width=width,
        height=height,
        fps=fps,
        frames=len(times),
        codec=stream.codec_context.name,
        container=container.format.name,
        rotation=rotation,
        reader="pyav" if objection else "decord",
    )
    keys = np.array(packets.keys or packets.pts[:1], dtype=np.int64)
    return Video(path, facts, pts, keys, times, packets.exact, _cut_off(container, stream, facts), objection)


def _cut_off(container: InputContainer, stream: VideoStream, facts: VideoFacts) -> tuple[str, ...]:
    """A warning where the pictures end well before the length that the container announces."""
    if stream.duration is not None and stream.time_base is not None:
        announced = float(stream.duration * stream.time_base)
    else:
        announced = ((container.duration or 0) - max(container.start_time or 0, 0)) / av.time_base
    if announced - facts.duration <= max(1.0, 0.05 * announced):
        return ()
    return (f"the pictures end at {facts.duration:.1f} s of {announced:.1f} s: the file may be cut off",)


def _objection(container: InputContainer, stream: VideoStream, packets: _Packets) -> str | None:
    """Why decord (3.4) would hand out the wrong frames or none; each of these was seen to happen."""
    codec = stream.codec_context.name
    if not set(container.format.name.split(",")) & set(_INDEXED):
        return f"it cannot seek in {container.format.name} files"
    if codec not in _STEADY:
        return f"it loses frames of {codec} streams"
    if not packets.exact:
        return "the file does not say when its frames are shown"
    if packets.hidden:
        return f"the file hides {packets.hidden} frames that it would count"
    if packets.leading:
        return "it miscounts frames after a seek in this stream (open groups of pictures)"
    return None
