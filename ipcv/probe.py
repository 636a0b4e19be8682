"""What a video file holds, known before a reader opens it: facts, frame times, and clear words for what is wrong."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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

_TICK = Fraction(1, av.time_base)
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


@dataclass
class _Packets:
    """One pass over the compressed stream."""

    tick: Fraction  # seconds
    exact: bool  # the stamps are what decoded frames will carry
    pts: list[int] = field(default_factory=list)  # of each shown frame
    keys: list[int] = field(default_factory=list)
    untimed: bool = False  # there is no stamp at all
    hidden: int = 0  # frames that an edit list cuts away
    leading: int = 0  # frames decoded after a key frame but shown before it
    last: int = 0  # the largest stamp
    stays: int = 0  # how many ticks that frame is shown


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
                raise VideoError(f"{shown(path)} holds no {_codec(stream)} picture that can be decoded: copy it again")
            return _describe(path, container, stream, packets, frame)
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


def _codec(stream: VideoStream) -> str:
    return stream.codec_context.codec.canonical_name


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
        hint = "download the video first" if ":/" in str(path) else "check the path"
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
    found = _Packets(tick=stream.time_base or _TICK, exact=container.format.name != "avi")  # AVI keeps no pts
    key: int | None = None
    for packet in container.demux(stream):
        if not packet.size:
            continue  # the flush at the end, or a filler
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.pts is None:
            found.exact = False
        if stamp is None:
            found.untimed = True
            stamp = len(found.pts)
        if packet.is_keyframe:
            key = stamp
            found.keys.append(stamp)
        found.leading += key is not None and stamp < key
        if packet.is_discard:
            found.hidden += 1
            continue
        if not found.pts or stamp > max(found.pts[-1], found.last):
            found.last, found.stays = stamp, packet.duration or 0
        found.pts.append(stamp)
    if found.untimed:
        found.pts, found.stays = list(range(len(found.pts))), 1
        found.tick = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
    found.pts.sort()
    found.keys.sort()
    return found


def _describe(
    path: Path, container: InputContainer, stream: VideoStream, packets: _Packets, frame: VideoFrame
) -> Video:
    """The index in source time, and the facts as a player would show them."""
    pts = np.array(packets.pts, dtype=np.int64)
    origin = (container.start_time or 0) / av.time_base if packets.exact else float(pts[0] * packets.tick)
    times = np.maximum(pts * float(packets.tick) - origin, 0.0)
    span = float(times[-1] - times[0])
    fps = (len(times) - 1) / span if span > 0 else float(stream.average_rate or 0)
    last = float(packets.stays * packets.tick) or (1 / fps if fps else 0.0)
    rotation = round(-frame.rotation / 90) * 90 % 360
    width, height = max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1), frame.height
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
        codec=_codec(stream),
        container=container.format.name,
        rotation=rotation,
        reader="pyav" if objection else "decord",
    )
    keys = np.array(packets.keys, dtype=np.int64)
    warnings = _doubts(container, stream, packets, facts)
    return Video(path, facts, pts, keys, times, packets.exact, warnings, objection)


def _doubts(container: InputContainer, stream: VideoStream, packets: _Packets, facts: VideoFacts) -> tuple[str, ...]:
    """Warnings: frame times that had to be made up; pictures that end well before the announced length."""
    if packets.untimed:
        return (f"the file does not say when its frames are shown: taken as {facts.fps:g} per second",)
    if stream.duration is not None:
        announced = float(stream.duration * packets.tick)
    else:
        announced = ((container.duration or 0) - max(container.start_time or 0, 0)) / av.time_base
    if announced - facts.duration > max(1.0, 0.05 * announced):
        return (f"the pictures end at {facts.duration:.1f} s of {announced:.1f} s: the file may be cut off",)
    return ()


def _objection(container: InputContainer, stream: VideoStream, packets: _Packets) -> str | None:
    """Why decord (3.4) would hand out the wrong frames or none; each of these was seen to happen."""
    codec = _codec(stream)
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
