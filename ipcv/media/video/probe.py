"""Looking into a video file before decoding: its facts, the time of every frame, and whether decord can read it."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ipcv.errors import VideoError
from ipcv.media.display.look import Look, look_at
from ipcv.media.frames import VideoFacts
from ipcv.media.video.container import check_file, codec_name, explain, open_container, packets, pictures, video_stream
from ipcv.text import shown

_TICK = Fraction(1, av.time_base)
_INDEXED = ("mov", "mp4", "matroska", "webm")  # containers that decord can seek in
_STEADY = ("av1", "h264", "vp8", "vp9")  # codecs that decord decodes without losing frames


@dataclass(frozen=True, eq=False)
class IndexedVideo:
    """A readable video file and its frame index, in display order."""

    path: Path
    facts: VideoFacts
    pts: NDArray[np.int64]  # [frames] ticks at which each appears; dts where the container keeps no pts
    keys: NDArray[np.int64]  # ticks of the key frames
    times: NDArray[np.float64]  # [frames] seconds of source time at which each appears
    exact: bool  # whether pts are what decoded frames will carry
    warnings: tuple[str, ...]
    objection: str | None  # why decord would hand out wrong frames of this file
    look: Look  # how its pictures are displayed


@dataclass
class _Contents:
    """Stamps and counts from one pass over the compressed stream."""

    tick: Fraction  # seconds
    exact: bool = True  # the stamps are what decoded frames will carry
    stamps: list[int] = field(default_factory=list)  # ticks at which each shown frame appears, ascending
    keys: list[int] = field(default_factory=list)  # ticks of key frames
    stays: int = 0  # ticks for which the last frame is shown
    untimed: bool = False  # there are no stamps: frames are counted
    hidden: int = 0  # frames that an edit list cuts away
    leading: int = 0  # frames decoded after a key frame but shown before it


def probe(path: str | Path) -> IndexedVideo:
    """Open, index (without decoding) and decode one frame of a video file. Raises `VideoError`."""
    path = Path(path)
    check_file(path)
    try:
        with open_container(path) as container:
            stream = video_stream(container, path)
            contents = _index(container, stream)
        with open_container(path) as container:
            stream = video_stream(container, path)
            frame = next(pictures(container, stream), None)
            if frame is None or not contents.stamps:
                raise VideoError(
                    f"{shown(path)} holds no {codec_name(stream)} picture that can be decoded: copy it again"
                )
            return _describe(path, container, stream, contents, frame)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(explain(path, error)) from error


def _index(container: InputContainer, stream: VideoStream) -> _Contents:
    """Read from the packets alone at which time each frame appears."""
    found = _Contents(stream.time_base or _TICK)
    decoding: list[int] = []  # when each is decoded: all that some containers say
    total, latest, key = 0, -math.inf, math.inf
    for packet in packets(container, stream):
        if not packet.size:
            continue  # a filler, or the flush at the end
        total += 1
        if packet.dts is not None:
            decoding.append(packet.dts)
        if packet.pts is None:
            continue  # the second field of a frame, or a container without such stamps
        if packet.is_keyframe:
            key = packet.pts
            found.keys.append(packet.pts)
        found.leading += packet.pts < key < math.inf
        found.hidden += packet.is_discard
        if not packet.is_discard:
            found.stamps.append(packet.pts)
            if packet.pts > latest:
                latest, found.stays = packet.pts, packet.duration or 0
    if container.format.name == "avi" or 3 * len(found.stamps) < total:
        _count_frames(found, decoding, total, stream)
    found.stamps.sort()
    found.keys.sort()
    return found


def _count_frames(found: _Contents, decoding: list[int], total: int, stream: VideoStream) -> None:
    """Make up stamps for a stream that has none for display: frames appear in the order and pace of their decoding."""
    found.exact = False
    found.stamps = decoding
    if len(decoding) < total:
        found.untimed = True
        found.stamps, found.stays = list(range(total)), 1
        found.tick = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))


def _describe(
    path: Path, container: InputContainer, stream: VideoStream, contents: _Contents, frame: VideoFrame
) -> IndexedVideo:
    """Put the stamps into source time, and the facts as a player would show them."""
    pts = np.array(contents.stamps, dtype=np.int64)
    origin = (container.start_time or 0) / av.time_base if contents.exact else float(pts[0] * contents.tick)
    times = np.maximum(pts * float(contents.tick) - origin, 0.0)
    span = float(times[-1] - times[0])
    fps = (len(times) - 1) / span if span > 0 else float(stream.average_rate or 0)
    last = float(contents.stays * contents.tick) or (1 / fps if fps else 0.0)
    look = look_at(stream, frame)
    stored_width = max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1)
    height, width = look.orientation.stored((frame.height, stored_width))
    objection = _objection(container, stream, contents) or look.needs_pyav
    facts = VideoFacts(
        path=str(path),
        duration=float(times[-1]) + last,
        width=width,
        height=height,
        fps=fps,
        frames=len(times),
        codec=codec_name(stream),
        container=container.format.name,
        rotation=look.orientation.rotation,
        mirrored=look.orientation.mirrored,
        interlaced=look.interlaced,
        dynamic_range=look.dynamic_range,
        reader="pyav" if objection else "decord",
    )
    keys = np.array(contents.keys, dtype=np.int64)
    warnings = (*_doubts(container, stream, contents, facts), *look.warnings)
    return IndexedVideo(path, facts, pts, keys, times, contents.exact, warnings, objection, look)


def _doubts(container: InputContainer, stream: VideoStream, contents: _Contents, facts: VideoFacts) -> tuple[str, ...]:
    """Warn of frame times that had to be made up, and of pictures that end well before the announced length."""
    if contents.untimed:
        return (f"the file does not say when its frames are shown: taken as {facts.fps:g} per second",)
    if stream.duration is not None:
        announced = float(stream.duration * contents.tick)
    else:
        announced = ((container.duration or 0) - max(container.start_time or 0, 0)) / av.time_base
    if announced - facts.duration > max(1.0, 0.05 * announced):
        return (f"the pictures end at {facts.duration:.1f} s of {announced:.1f} s: the file may be cut off",)
    return ()


def _objection(container: InputContainer, stream: VideoStream, contents: _Contents) -> str | None:
    """Say why decord (3.4) would hand out wrong frames or none. Each of these cases was seen to happen."""
    codec = codec_name(stream)
    if not set(container.format.name.split(",")) & set(_INDEXED):
        return f"it cannot seek in {container.format.name} files"
    if codec not in _STEADY:
        return f"it loses frames of {codec} streams"
    if not contents.exact:
        return "the file does not say when its frames are shown"
    if stream.frames > len(contents.stamps) + contents.hidden:
        return f"the file announces {stream.frames} frames and holds {len(contents.stamps)}"
    if contents.hidden:
        return f"the file hides {contents.hidden} frames that it would count"
    if contents.leading:
        return "it miscounts frames after a seek in this stream (open groups of pictures)"
    return None
