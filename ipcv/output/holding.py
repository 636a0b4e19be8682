"""Files that only one run at a time may write. The file itself is locked, so that nothing stays beside it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FAR = 1 << 62  # Windows locks bytes and keeps others from reading them: one that no file has


class HeldError(OSError):
    """Another run holds the file."""


def hold(path: Path, *, wait: bool = False) -> int:
    """Open a file to read and append, made if it is not there, and keep out whoever else calls `hold` for it.

    Closing it, or the end of the process, lets it go. Other names of the file, through links say, are held with it.
    Raises `HeldError` if another holds it and `wait` is False, and `OSError`.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(file, path, wait=wait)
            if is_at(file, path):  # else it was replaced in the meantime
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a file for the length of the `with`, after all others that do."""
    file = hold(path, wait=True)
    try:
        yield file
    finally:
        os.close(file)


def take_over(file: int, path: Path) -> None:
    """Hold an open file that is about to take the place of `path`, which this run holds."""
    _lock(file, path, wait=False)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one that stands at `path`."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int, path: Path, *, wait: bool) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError) as error:
        raise HeldError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
