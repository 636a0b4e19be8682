"""Standard streams that are closed, or can no longer be written to because a pipe is closed or a disk is full."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO


def open_closed() -> None:
    """Open the null device as each standard stream that is closed: a file or pipe must not take its place.

    `sys.stdout` and its like stay None.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free


def abandon(stream: TextIO | None) -> None:
    """Send what is still buffered to nowhere, so that the interpreter does not complain at its end."""
    if stream is not None:
        with suppress(AttributeError, OSError), Path(os.devnull).open("w") as nowhere:  # it may be closed, or no file
            os.dup2(nowhere.fileno(), stream.fileno())


def check_stdout() -> None:
    """Raise `OSError` if stdout is closed: what a command finds out would have nowhere to go."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")


class Stderr:
    """The current standard error. Once it cannot be written to, it is silent, and the work goes on."""

    def write(self, text: str) -> int:
        """Write `text`, or nothing if that fails."""
        if sys.stderr is not None:
            try:
                sys.stderr.write(text)
            except OSError:
                abandon(sys.stderr)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or nothing if that fails."""
        if sys.stderr is not None:
            try:
                sys.stderr.flush()
            except OSError:
                abandon(sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
