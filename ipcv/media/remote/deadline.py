"""A time after which a connection is broken off, whatever its server is doing."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Deadline:
    """Breaks a connection off when its time is over, whatever the server is doing."""

    def __init__(self, seconds: float) -> None:
        self.has_passed = False
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.extend(seconds, "the server has not answered")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def extend(self, seconds: float, lacks: str) -> None:
        """Start anew, with another time; `lacks` says what has not happened when it is over."""
        if self._timer:
            self._timer.cancel()
        self.seconds, self.lacks = seconds, lacks
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """Break this connection off."""
        self._socket = connected
        if self.has_passed:
            self._end()

    def check(self) -> None:
        """Raise `TimeoutError` if it has passed: what was broken off may look like an end."""
        if self.has_passed:
            raise TimeoutError

    def _end(self) -> None:
        self.has_passed = True
        if self._socket:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)
