"""Pseudo-terminals: what a person would see of a program's output, and the bytes that made it so."""

import fcntl
import os
import pty
import struct
import termios
import threading
from types import TracebackType
from typing import Self, TextIO

import pyte

WIDTH, HEIGHT = 80, 40


class Terminal:
    """A terminal whose near end, `file`, a program writes to; its screen is complete once the `with` is left."""

    def __init__(self) -> None:
        self._far, near = pty.openpty()
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self.file: TextIO = os.fdopen(near, "w", encoding="utf-8", errors="backslashreplace")
        self.received = b""
        self._display = pyte.Screen(WIDTH, HEIGHT)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self._reader.join(30)
        os.close(self._far)

    def control(self) -> None:
        """In a process that begins a session: from now on this is its terminal, and Ctrl-C interrupts it."""
        fcntl.ioctl(self.file.fileno(), termios.TIOCSCTTY, 0)

    def type(self, text: str) -> None:
        """What a person types: a program that has `file` as its stdin reads it."""
        os.write(self._far, text.encode())

    def _read(self) -> None:
        stream = pyte.ByteStream(self._display)
        while True:
            try:
                data = os.read(self._far, 65536)
            except OSError:  # the near end is closed
                return
            if not data:
                return
            self.received += data
            stream.feed(data)

    @property
    def screen(self) -> str:
        """What stands on the screen."""
        return "\n".join(line.rstrip() for line in self._display.display).rstrip("\n")

    @property
    def cursor_is_visible(self) -> bool:
        """Whether a prompt that comes next would have a cursor."""
        return not self._display.cursor.hidden
