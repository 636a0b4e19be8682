"""Temporary folders for remote videos, which the next run removes where a process was killed before it could."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "ipcv-readers-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end. Folders that killed processes have left are removed first.

    Its process holds a lock on it, which the system releases when the process ends, however it ends.
    """
    remove_stale()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        held = _lock(folder, wait=True)
        if folder.exists():
            break
        _unlock(held)  # another process took the folder for a stale one before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(held)


def remove_stale() -> None:
    """Remove the scratch folders of this user whose processes have ended."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                if (held := _lock(folder, wait=False)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    _unlock(held)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder, and return the descriptor that holds the lock; None if it is held, or cannot be locked here."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            os.close(number)
        else:
            return number
    return None


def _unlock(number: int | None) -> None:
    if number is not None:
        os.close(number)
