"""The frame index of a video file, by one pass without decoding: where each picture lies, and when it is shown."""

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ipcv.media.video.clock import REORDERED, UNKNOWN, Ticks, continued
from ipcv.media.video.container import packets

NEVER = -1  # the rank of a packet whose picture is not shown, or that only completes the one before it
_TICK = Fraction(1, av.time_base)
_RESTARTING = 0x200  # FFmpeg's AVFMT_TS_DISCONT: the format allows times to start again
_COPIES = 4  # times that an index may claim the file's bytes


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The packets of a stream in decoding order, and its frames in display order."""

    rank: Ticks  # [packets] which frame each one holds, counted in display order
    key: NDArray[np.bool_]  # [packets] whether decoding can begin there
    place: Ticks  # [packets] bytes from the file's start; -1 where the format does not say
    size: Ticks  # [packets] bytes
    seek: Ticks  # [packets] the file's own time of decoding or display, by which it is sought
    packet: Ticks  # [frames] which packet holds each
    shown: Ticks  # [frames] ticks at which each appears, on a clock that goes on where the file's own jumps
    tick: Fraction  # seconds
    stays: int  # ticks for which the last frame is shown
    counted: bool  # packets do not say which frame they hold: frames are counted as they are decoded
    doubtful: bool  # times ascend in decoding order though the decoder may reorder: they may not be those of display
    untimed: bool  # the file gives no times at all
    jumps: int  # how often the file's own times start again or jump
    hidden: int  # packets that the file says not to show
    damaged: bool  # a picture would stay for longer than one can
    others: int  # further streams of moving pictures
    cut: bool = True  # an edit list is obeyed


@dataclass
class _Contents:
    """Stamps of the packets that hold pictures, in decoding order."""

    shown: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    stays: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)  # cut away by an edit list

    def add(self, packet: "Packet[VideoStream]") -> None:
        self.shown.append(UNKNOWN if packet.pts is None else packet.pts)
        self.decoded.append(UNKNOWN if packet.dts is None else packet.dts)
        self.stays.append(packet.duration or 0)
        self.place.append(-1 if packet.pos is None else packet.pos)
        self.size.append(packet.size)
        self.key.append(packet.is_keyframe)
        self.hidden.append(packet.is_discard)


def index_of(container: InputContainer, stream: VideoStream) -> FrameIndex:
    """Read every packet, and find at which time its picture appears."""
    found = _Contents()
    room = _COPIES * container.size
    for packet in packets(container, stream):
        if not packet.size:
            continue  # a filler, or the flush at the end
        found.add(packet)
        if (room := room - packet.size) < 0:
            break  # an index that names the same bytes over and over
    return _timed(found, container, stream)


def _timed(found: _Contents, container: InputContainer, stream: VideoStream) -> FrameIndex:
    """Put the pictures into display order, on one clock."""
    stamps = _stamps(found, container, stream)
    timed, tick = stamps.timed, stamps.tick
    key, decoded = np.array(found.key, bool), np.array(found.decoded, np.int64)
    clock = continued(
        stamps.shown[timed],
        _times_of_decoding(stamps, decoded, container),
        key[timed],
        tick=float(tick),
        usual=int(1 / (tick * (stream.average_rate or 25))),
        restarting=bool(container.format.flags & _RESTARTING),
    )
    order = np.argsort(clock.shown, kind="stable")
    packet = np.flatnonzero(timed)[order]
    rank = np.full(len(timed), NEVER, np.int64)
    rank[packet] = np.arange(len(packet))
    stays = found.stays[packet[-1]] if len(packet) and not stamps.untimed else 0  # of other ticks than those made up
    return FrameIndex(
        rank=rank,
        key=key,
        place=np.array(found.place, np.int64),
        size=np.array(found.size, np.int64),
        seek=np.where(decoded == UNKNOWN, stamps.shown, decoded),
        packet=packet,
        shown=_later(clock.shown[order], stamps.hidden, clock.usual),
        tick=tick,
        stays=stays if 0 < stays <= clock.longest else clock.usual,
        counted=stamps.counted,
        doubtful=stamps.doubtful,
        untimed=stamps.untimed,
        jumps=clock.jumps,
        hidden=sum(found.hidden) if not stamps.hidden else 0,
        others=sum(not other.disposition & Disposition.attached_pic for other in container.streams.video) - 1,
        damaged=max(found.stays, default=0) > clock.longest,
    )


@dataclass(frozen=True, eq=False)
class _Stamps:
    """The times at which pictures are shown, as their packets give them."""

    shown: Ticks  # [packets]
    timed: NDArray[np.bool_]  # [packets] whether a frame of its own is shown then
    tick: Fraction  # seconds
    counted: bool
    untimed: bool
    doubtful: bool = False
    hidden: int = 0  # of the first frames in display order, though the file hides the first in decoding order


def _stamps(found: _Contents, container: InputContainer, stream: VideoStream) -> _Stamps:
    """Read times of display; take those of decoding, or a steady rate, where the file has no others."""
    tick = stream.time_base or _TICK
    shown, decoded = np.array(found.shown, np.int64), np.array(found.decoded, np.int64)
    hidden, every = np.array(found.hidden, bool), np.ones(len(shown), bool)
    timed = shown != UNKNOWN
    if (decoded == UNKNOWN).any() and 3 * timed.sum() < len(shown):
        rate = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
        return _Stamps(np.arange(len(shown)), every, rate, counted=True, untimed=True)
    if container.format.name == "avi" or 3 * timed.sum() < len(shown):
        return _Stamps(decoded, every, tick, counted=True, untimed=False)
    doubtful = bool(stream.codec_context.has_b_frames) and bool((np.diff(shown[timed]) > 0).all())
    if doubtful and 0 < hidden.sum() <= REORDERED and (shown == decoded).all():
        return _Stamps(shown, every, tick, counted=True, untimed=False, hidden=int(hidden.sum()))
    return _Stamps(shown, timed & ~hidden, tick, counted=False, untimed=False, doubtful=doubtful)


def _times_of_decoding(stamps: _Stamps, decoded: Ticks, container: InputContainer) -> Ticks | None:
    """Times of decoding of the frames, if the format stores them; FFmpeg's guess is none where times start again."""
    if stamps.counted:
        return stamps.shown[stamps.timed]
    found = decoded[stamps.timed]
    stored = "matroska" not in container.format.name and 2 * int((found != UNKNOWN).sum()) > len(found)
    return found if stored else None


def _later(shown: Ticks, frames: int, usual: int) -> Ticks:
    """Show every frame as many places later: so much time of the file was left for bringing pictures into order."""
    return np.concatenate([shown[frames:], shown[-1:] + usual * np.arange(1, frames + 1)]) if frames else shown
