"""Decoding chosen frames of a video: each is known by the packet that it comes from, never by where a seek landed.

The index knows every packet by its place in the file. A decoder is told which frame a packet holds, in place of the
file's own time stamp, and hands that on with the picture.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ipcv.errors import VideoError
from ipcv.media.display.fields import deinterlaced
from ipcv.media.frames import FrameSize, FrameStream
from ipcv.media.video.clock import REORDERED
from ipcv.media.video.container import decoded
from ipcv.media.video.index import NEVER, FrameIndex
from ipcv.media.video.packets import PacketStream
from ipcv.media.video.probe import IndexedVideo
from ipcv.text import shown

Gaps = list[int]  # positions of frames that could not be decoded
Ranked = tuple[int, VideoFrame]  # position, picture
BRIDGED = 8  # packets that are decoded without need, where that is quicker than beginning anew
TRIES = 2  # times that an earlier key frame may be tried in vain: then the file is damaged
_LAYERS = 21  # byte of an HEVC header (ISO/IEC 14496-15, version 1) whose bits 3 to 5 count the temporal layers
_WHOLE = frozenset({PictureType.NONE, PictureType.I, PictureType.SI, PictureType.BI})
SKIPPING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})  # codecs whose frames say if others need them


@dataclass(frozen=True)
class Run:
    """Packets that are decoded one after the other for the frames at some positions."""

    first: int
    last: int
    positions: tuple[int, ...]  # ascending


def chosen_frames(video: IndexedVideo, size: FrameSize, positions: Sequence[int], gaps: Gaps) -> FrameStream:
    """Yield the frames [height, width, 3] at ascending positions.

    A frame that cannot be decoded is replaced by the nearest one that was, and noted in `gaps`.
    Raises `VideoError` where nothing can be decoded.
    """
    with closing(_Decoder(video)) as decoder:
        for position, (rank, frame) in decoder.at(positions):
            if rank != position:
                gaps.append(position)
            yield video.look.shown(frame, size)


def runs(index: FrameIndex, positions: Sequence[int], *, around: int, keys: bool = True) -> list[Run]:
    """Plan which packets to decode; `around`: neighbours that are needed on both sides; `keys`: begin at key frames."""
    if index.counted:
        return [Run(0, len(index.rank) - 1, tuple(positions))]
    starts = np.flatnonzero(index.key) if keys else np.zeros(0, np.int64)
    planned: list[Run] = []
    for position in positions:
        ahead = REORDERED if index.doubtful else around
        needed = index.packet[max(position - around, 0) : position + ahead + 1].tolist()
        first, last = min(start(index, starts, packet) for packet in needed), max(needed)
        before = planned[-1] if planned else None
        if before and first <= before.last + BRIDGED:
            planned[-1] = Run(min(first, before.first), max(before.last, last), (*before.positions, position))
        else:
            planned.append(Run(first, last, (position,)))
    return planned


def start(index: FrameIndex, starts: NDArray[np.int64], packet: int, back: int = 0) -> int:
    """Find the key frame from which on `packet` decodes: the last before it that is not displayed after it."""
    before = int(np.searchsorted(starts, packet, side="right")) - 1
    while before >= 0 and index.rank[starts[before]] > index.rank[packet]:
        before -= 1
    return int(starts[before - back]) if before - back >= 0 else 0


def skips_exactly(decoder: VideoCodecContext) -> bool:
    """Whether the decoder can leave out the frames that no other needs, and those alone.

    HEVC marks frames that none of their own temporal layer needs: the same thing where its header names one layer.
    """
    name, header = decoder.codec.canonical_name, decoder.extradata or b""
    one_layer = len(header) > _LAYERS and header[0] == 1 and header[_LAYERS] >> 3 & 7 == 1
    return name in SKIPPING or (name == "hevc" and one_layer)


class _Decoder:
    """A file's decoder, and the plan by which it comes by frames."""

    def __init__(self, video: IndexedVideo) -> None:
        self._video, self._index = video, video.index
        self._packets = PacketStream(video.path, video.index)
        self._around = int(video.look.interlaced)  # neighbours with which a picture is compared
        self._keys = True  # whether decoding can begin at key frames
        self._vain = 0  # earlier key frames that were tried in vain
        self._last: Ranked | None = None

    def close(self) -> None:
        self._packets.close()

    def at(self, positions: Sequence[int]) -> Iterator[tuple[int, Ranked]]:
        """Yield each of the ascending positions with its frame, or with the nearest one that can be decoded."""
        done = 0
        while done < len(positions):
            try:
                for run in runs(self._index, positions[done:], around=self._around, keys=self._keys):
                    for position, found in self._of(run):
                        done += 1
                        self._last = found
                        yield position, found
            except _FalseKeyError:
                self._keys = False
            except _OrderError:
                self._index = replace(self._index, counted=True, doubtful=False)

    def _of(self, run: Run) -> Iterator[tuple[int, Ranked]]:
        frames = _InOrder(self._ranked(run))
        for position in run.positions:
            found = frames.nearest(position)
            if found is None or found[0] != position:
                found = self._from_earlier(run, position) or found or self._last or self._any_from(run.first)
            yield position, found

    def _ranked(self, run: Run) -> Iterator[Ranked]:
        """Decode a run, and say of each frame which one it is."""
        index, following, groups = self._index, -1, np.flatnonzero(self._index.key)
        before = _frames_before(index)
        for frame in deinterlaced(self._decoded(run)):
            if frame.pts is None:
                continue
            rank = frame.pts
            if index.counted:
                group = int(np.searchsorted(groups, rank, side="right")) - 1
                rank = max(following, int(before[groups[group]]) if group >= 0 else 0)  # groups are not mixed
            elif run.first and rank == index.rank[run.first] and frame.pict_type not in _WHOLE:
                raise _FalseKeyError
            elif index.doubtful and rank != max(following, before[run.first]):
                raise _OrderError
            following = rank + 1
            yield rank, frame

    def _decoded(self, run: Run) -> Iterator[VideoFrame]:
        index, packets = self._index, self._packets
        packets.reach(run.first)
        decoder = packets.decoder
        decoder.flush_buffers()
        skips = skips_exactly(decoder) and not (index.counted or index.doubtful or self._around)
        wanted = {int(index.packet[position]) for position in run.positions} if skips else set()
        for number in range(run.first, run.last + 1):
            rank = int(index.rank[number])
            packet = _named(packets.take(), number if index.counted and rank != NEVER else rank)
            if skips:
                decoder.skip_frame = "DEFAULT" if number in wanted or packet.pts is None else "NONREF"
            yield from decoded(decoder, packet)
        yield from decoded(decoder, None)

    def _from_earlier(self, run: Run, position: int) -> Ranked | None:
        """Try again from an earlier key frame: not all that are called so are whole."""
        packet, keys = int(self._index.packet[position]), np.flatnonzero(self._index.key)
        for back in (1, 3):
            if not run.first or self._vain == TRIES:
                break
            first = start(self._index, keys, packet, back)
            with closing(_Decoder(self._video)) as other:
                for found in other._ranked(Run(first, run.last, (position,))):
                    if found[0] == position:
                        return found
            self._vain += 1
        if self._keys and run.first and 2 * len(keys) > len(self._index.rank):
            raise _FalseKeyError  # a file may call all of its frames key frames
        return None

    def _any_from(self, first: int) -> Ranked:
        """Decode on from a packet to the first frame that there is."""
        with closing(_Decoder(self._video)) as other:
            for found in other._ranked(Run(first, len(self._index.rank) - 1, ())):
                return found
        raise VideoError(f"{shown(self._video.facts.path)} holds no frame here that can be decoded: try another start")


def _frames_before(index: FrameIndex) -> NDArray[np.int64]:
    """How many frames are decoded before each packet, where frames are counted."""
    is_frame = index.rank[: len(index.rank) if index.counted or index.doubtful else 0] != NEVER
    return np.cumsum(is_frame) - is_frame


class _FalseKeyError(Exception):
    """A packet is called a key frame and holds none."""


class _OrderError(Exception):
    """Frames are displayed in another order than their times say."""


class _InOrder:
    """Frames as a decoder hands them out, found by their positions."""

    def __init__(self, frames: Iterator[Ranked]) -> None:
        self._frames = frames
        self._held: dict[int, VideoFrame] = {}  # the last one before the position asked for, and those after it
        self._newest = -1

    def nearest(self, position: int) -> Ranked | None:
        """Find the frame at `position` (not before the last one asked for), or the one nearest to it, if any."""
        while position not in self._held and self._newest <= position + REORDERED:
            found = next(self._frames, None)
            if found is None:
                break
            rank, self._held[rank] = found
            self._newest = max(self._newest, rank)
            for passed in sorted(held for held in self._held if held < position)[:-1]:
                del self._held[passed]
        return min(self._held.items(), key=lambda held: abs(held[0] - position), default=None)


def _named(packet: "Packet[VideoStream]", name: int) -> "Packet[VideoStream]":
    """Give a packet a name in place of its times, or none if its picture is not shown."""
    if name != NEVER and packet.is_discard:  # a file whose times are in decoding order hides the wrong ones
        packet = cast("Packet[VideoStream]", Packet(bytes(packet)))
    packet.pts, packet.dts = None if name == NEVER else name, None
    return packet
