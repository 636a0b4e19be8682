"""Output that is no file: pipes, terminals and /dev/null, which get each line at once and remember nothing."""

import errno
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ipcv.errors import OutputLostError
from ipcv.output.lines import Record, line
from ipcv.text import shown

KNOWN = (os.devnull, "/dev/tty")  # devices that take lines of text
STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
PATIENCE = 10.0  # seconds that the reader of a named pipe has to come


def is_stream(path: Path) -> bool:
    """Whether `path` is there, and neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_stdout(path: Path) -> bool:
    """Whether `path` is another name of this process's stdout."""
    return str(path) in STDOUT


def is_writable_stream(path: Path) -> bool:
    """Whether `path` is a pipe, this process's own stdout or stderr, its terminal, or /dev/null. Opens nothing."""
    status = path.stat()
    return stat.S_ISFIFO(status.st_mode) or _standard(status) is not None or any(_is(status, name) for name in KNOWN)


class Stream:
    """A pipe, a terminal or /dev/null, open for the length of the `with`. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def __enter__(self) -> Self:
        standard = _standard(self.path.stat())
        self._file = _opened(self.path) if standard is None else os.dup(standard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, records: Sequence[Record]) -> None:
        """Write all lines of one video. Raises `OutputLostError` if the reader of a pipe has gone."""
        data = memoryview(b"".join(map(line, records)))
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except BrokenPipeError as error:  # raised as it is, it would end the command line without an error
            why = "nobody reads it any more, so that captions would be lost"
            raise OutputLostError(f"{shown(self.path)} is closed: {why}; the same command starts anew") from error


def _is(status: os.stat_result, device: str) -> bool:
    try:
        return os.path.samestat(status, Path(device).stat())
    except OSError:
        return False


def _standard(status: os.stat_result) -> int | None:
    """The descriptor of stdout or stderr if that is what has this status, as /dev/stdout has."""
    for file in (1, 2):
        with suppress(OSError):  # it may be closed
            there = os.fstat(file)
            if os.path.samestat(status, there) and (os.isatty(file) or not stat.S_ISCHR(there.st_mode)):
                return file
    return None


def _opened(path: Path) -> int:
    """Open a stream to write. A named pipe whose reader does not come is an `OSError`, not an endless wait."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            file = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= until:
                raise OSError(errno.ENXIO, "Nobody reads this pipe", str(path)) from error
            time.sleep(0.05)
            continue
        os.set_blocking(file, True)
        return file
