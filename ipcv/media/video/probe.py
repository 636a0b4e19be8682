"""Looking into a video file before decoding: its facts, and the time of every frame."""

import mmap
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ipcv.errors import VideoError
from ipcv.media.display.colors import tags
from ipcv.media.display.look import Look, look_at
from ipcv.media.frames import VideoFacts
from ipcv.media.video.container import (
    all_packets,
    check_file,
    codec_name,
    decoded,
    decoder_of,
    open_container,
    packets,
    unreadable,
    video_stream,
)
from ipcv.media.video.index import FrameIndex, index_of
from ipcv.text import shown

UNREAD = 0.1  # part of a transport stream that may lie behind its last packet without a word
PADDING = 6144  # bytes, to whole numbers of which Blu-ray's transport streams (.m2ts) are filled up
_MICROSECOND = Fraction(1, av.time_base)
_RATELESS = ("mjpeg", "obu")  # formats of which FFmpeg makes up the rate and the times


@dataclass(frozen=True, eq=False)
class IndexedVideo:
    """A readable video file and its frame index."""

    path: Path
    facts: VideoFacts
    index: FrameIndex
    times: NDArray[np.float64]  # [frames] seconds of source time at which each appears, ascending
    look: Look
    warnings: tuple[str, ...]


def probe(path: str | Path) -> IndexedVideo:
    """Open, index (without decoding) and decode one frame of a video file. Raises `VideoError`."""
    path = Path(path)
    check_file(path)
    try:
        index = _index(path)
        with open_container(path, cut=index.cut) as container:
            stream = video_stream(container, path)
            declared = tags(stream.codec_context)
            frame = _first_frame(container, stream)
            if frame is None or not len(index.shown):
                raise VideoError(
                    f"{shown(path)} holds no {codec_name(stream)} picture that can be decoded: copy it again"
                )
            return _describe(path, container, stream, index, frame, look_at(frame, declared))
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(path, error) from error


def _index(path: Path) -> FrameIndex:
    with open_container(path) as container:
        index = index_of(container, video_stream(container, path))
    if index.damaged:  # what an edit list says of when frames are shown means nothing then
        with open_container(path, cut=False) as container:
            index = replace(index_of(container, video_stream(container, path)), cut=False)
    return index


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    decoder = decoder_of(stream)
    for packet in chain(packets(container, stream), [None]):  # the last: what a file that broke off left inside
        for frame in decoded(decoder, packet):
            return frame
    return None


def _describe(
    path: Path, container: InputContainer, stream: VideoStream, index: FrameIndex, frame: VideoFrame, look: Look
) -> IndexedVideo:
    """Put the stamps into source time, and the facts as a player would show them."""
    times = _seconds(container, index)
    span = float(times[-1] - times[0])
    fps = (len(times) - 1) / span if span > 0 else float(stream.average_rate or 0)
    stored_width = max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1)
    height, width = look.orientation.stored((frame.height, stored_width))
    facts = VideoFacts(
        path=str(path),
        duration=round(float(times[-1]) + float(index.stays * index.tick), 6),
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
        reader="pyav",
    )
    others = (f"further video streams in the file are not read: {index.others}",) if index.others else ()
    doubts = (*_doubts(path, container, stream, index, facts), *_unread(path, container, index))
    warnings = (*others, *doubts, *look.warnings)
    return IndexedVideo(path, facts, index, times, look, warnings)


def _seconds(container: InputContainer, index: FrameIndex) -> NDArray[np.float64]:
    """Seconds since the start of playing at which each frame appears, to the microsecond."""
    start = container.start_time
    if index.counted or start is None:
        origin = Fraction(int(index.shown[0]))
    else:
        origin = start * _MICROSECOND / index.tick
        starts = [(stream.start_time, stream.time_base) for stream in container.streams]
        exact = [time * tick for time, tick in starts if time is not None and tick]
        nearest = min(exact, key=lambda time: abs(time - start * _MICROSECOND), default=None)
        if nearest is not None and abs(nearest - start * _MICROSECOND) <= _MICROSECOND:
            origin = nearest / index.tick  # the container rounds the time at which its first stream starts
    whole = round(origin)
    times = ((index.shown - whole) - float(origin - whole)) * float(index.tick)
    return np.maximum(np.round(times, 6), 0.0) + 0.0


def _doubts(
    path: Path, container: InputContainer, stream: VideoStream, index: FrameIndex, facts: VideoFacts
) -> tuple[str, ...]:
    """Warn of frame times that had to be made up, and of pictures that end well before the announced length."""
    if index.untimed or container.format.name in _RATELESS:
        return (f"the file does not say when its frames are shown: taken as {facts.fps:g} per second",)
    if index.hidden > facts.frames:
        return (f"an edit list hides {index.hidden} of the file's {index.hidden + facts.frames} frames",)
    if index.jumps:
        often = "once" if index.jumps == 1 else f"{index.jumps} times"
        return (f"the file's clock starts again or jumps {often}: the times here go on, as they do in a player",)
    if stream.duration is not None:
        announced = float(stream.duration * (stream.time_base or _MICROSECOND))
    else:
        announced = ((container.duration or 0) - max(container.start_time or 0, 0)) / av.time_base
    if announced - facts.duration > max(1.0, 0.05 * announced) and not _goes_on(path, announced):
        return (f"the pictures end at {facts.duration:.1f} s of {announced:.1f} s: the file may be cut off",)
    return ()


def _goes_on(path: Path, announced: float) -> bool:
    """Whether something else than pictures, such as sound, reaches about the announced end."""
    with open_container(path) as container:
        start = (container.start_time or 0) / av.time_base
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base) - start
            for packet in all_packets(container)
            if packet.pts is not None and packet.time_base
        )
        return max(ends, default=0.0) > announced - max(1.0, 0.05 * announced)


def _unread(path: Path, container: InputContainer, index: FrameIndex) -> tuple[str, ...]:
    """Warn where a recording lies behind all that was read, as where files were put one behind the other."""
    end, size = int((index.place + index.size).max()), container.size
    if (index.place < 0).any() or end >= size:
        return ()
    if container.format.name == "mpegts":  # its parts have no header; other programs turn up on the way
        without_a_word = max(UNREAD * size, PADDING)
        if size - end <= without_a_word or size - _end_of_all(path) <= without_a_word:
            return ()
    elif not _begins_again(path, end):
        return ()
    part = f"the last {100 * (size - end) / size:.0f} % of the file are not read"
    return (f"{part}, they hold another recording: join recordings with ffmpeg -f concat",)


def _end_of_all(path: Path) -> int:
    """Bytes up to the end of the last packet of any stream, such as sound."""
    with open_container(path) as container:
        return max(packet.pos + packet.size for packet in all_packets(container) if packet.pos is not None)


def _begins_again(path: Path, end: int) -> bool:
    """Whether the header of another file of the same kind lies behind the place `end`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = content[4:8] if content[4:8] == b"ftyp" else content[:14]  # MXF's footer has 13 bytes in common
        return content.find(header, end) >= 0
