"""The packets of a video file by their numbers in decoding order, read on from the start or from a proven place."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from ipcv.errors import VideoError
from ipcv.media.video.container import decoder_of, open_container, packets, video_stream
from ipcv.media.video.index import FrameIndex
from ipcv.text import shown

FAR = 4 << 20  # bytes from which on a seek is quicker than reading
_LANDING = 64  # packets after a seek of which one has to be known


class PacketStream:
    """A file that is read forwards. A seek is believed only where the packet that arrives is known by its place."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self._path, self._index = path, index
        self._seeks = _says_places(index)
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._path, cut=self._index.cut)
        self.stream = video_stream(self._container, self._path)
        self.decoder = decoder_of(self.stream)
        self._packets = self._filled()
        self._next = 0  # number of the packet that comes next

    def _filled(self) -> Iterator["Packet[VideoStream]"]:
        return (packet for packet in packets(self._container, self.stream) if packet.size)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def reach(self, first: int) -> None:
        """Make `first` the packet that comes next. This may open another `stream` and `decoder`."""
        if first < self._next:
            self.close()
            self._open()
        place = self._index.place
        if self._seeks and place[first] - place[self._next] > FAR and not self._sought(first):
            self._seeks = False
            self.close()
            self._open()
        while self._next < first:
            self.take()

    def take(self) -> "Packet[VideoStream]":
        """Read the packet that comes next. Raises `VideoError` if the file is another by now."""
        packet = next(self._packets, None)
        index, number = self._index, self._next
        if packet is None or packet.size != index.size[number] or _place(packet) != index.place[number]:
            raise VideoError(f"{shown(self._path)} was changed while it was being read")
        self._next += 1
        return packet

    def _sought(self, first: int) -> bool:
        """Seek to `first` or somewhat before it; afterwards it is known which packet comes next."""
        try:
            self._container.seek(int(self._index.seek[first]), stream=self.stream)
        except (av.error.FFmpegError, OverflowError):
            return False
        self._packets = self._filled()
        for packet in islice(self._packets, _LANDING):
            same = (self._index.place == _place(packet)) & (self._index.size == packet.size)
            if len(numbers := np.flatnonzero(same)) == 1:
                self._packets = chain([packet], self._packets)
                self._next = int(numbers[0])
                return self._next <= first
        return False


def _place(packet: "Packet[VideoStream]") -> int:
    return -1 if packet.pos is None else packet.pos


def _says_places(index: FrameIndex) -> bool:
    """Whether the container says for each packet where it lies."""
    return bool((index.place >= 0).all())
