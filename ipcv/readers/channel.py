"""Objects sent between a process and its reader over a socket, each one framed, so that a stray byte is noticed."""

import pickle
import socket
import struct
import time
from typing import Any

MARK = b"ipcv"  # every message starts with it
_HEAD = struct.Struct("<4sQI")  # the mark, bytes of the pickle, buffers beside it
_SIZE = struct.Struct("<Q")  # bytes of a buffer
_MOST = 1 << 40  # bytes of one part of a message; more is no message


class GarbledError(Exception):
    """Bytes arrived that are no message."""


class Channel:
    """One end of a connected socket. Arrays travel beside the pickle, without being copied into it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, message: object) -> None:
        """Send a message. Raises `OSError` if nobody takes it."""
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        self._socket.settimeout(None)
        sizes = b"".join(_SIZE.pack(part.nbytes) for part in parts)
        self._socket.sendall(_HEAD.pack(MARK, len(body), len(parts)) + sizes)
        self._socket.sendall(body)
        for part in parts:
            self._socket.sendall(part)

    def receive(self, seconds: float | None = None) -> Any:
        """Wait for a message, for `seconds` at most.

        Raises `TimeoutError`, `EOFError` if the other end is gone, `OSError`, and `GarbledError`.
        """
        until = None if seconds is None else time.monotonic() + seconds
        mark, size, count = _HEAD.unpack(self._take(_HEAD.size, until))
        if mark != MARK or size > _MOST or count > size:
            raise GarbledError("it does not start like one")
        sizes = [_SIZE.unpack(self._take(_SIZE.size, until))[0] for _ in range(count)]
        if sum(sizes) > _MOST:
            raise GarbledError("it is too long for one")
        body, *buffers = [self._take(each, until) for each in (size, *sizes)]
        try:
            return pickle.loads(body, buffers=buffers)  # noqa: S301 - from a process of our own
        except Exception as error:  # whatever a damaged pickle leads to
            raise GarbledError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _take(self, size: int, until: float | None) -> bytearray:
        """Receive `size` bytes, before the time `until`."""
        taken = bytearray(size)
        rest = memoryview(taken)
        while rest:
            self._socket.settimeout(None if until is None else max(until - time.monotonic(), 0.01))
            count = self._socket.recv_into(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return taken
