"""Hashes of whole files, remembered on disk until the file changes."""

import os
import re
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from hashlib import file_digest
from pathlib import Path

from ipcv.encodings.cache import default_folder

NAME = "hashes.sqlite"  # in the folder of encodings
MOST = 1_000_000  # files that are remembered
SETTLED = 2.0  # seconds: a file may change twice within one tick of its file system's clock
_WAIT = 5.0  # seconds for another process that writes
_SHA256 = re.compile("[0-9a-f]{64}")
_TABLE = """CREATE TABLE IF NOT EXISTS hashes (device, inode, size, mtime_ns, ctime_ns, hash,
 PRIMARY KEY (device, inode, size, mtime_ns, ctime_ns))"""


@dataclass(frozen=True)
class _State:
    """The facts about a file that the system changes whenever its content changes."""

    device: str  # text, as some numbers are larger than SQLite's
    inode: str
    size: int
    mtime_ns: int
    ctime_ns: int  # no program can set it


_unwritten: dict[_State, str] = {}  # hashes that could not be kept on disk


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in 64 hexadecimal digits. It is computed once for each state of the file.

    Raises `OSError`.
    """
    with path.open("rb") as file:
        begun, before = time.time(), _state(file.fileno())
        if known := _recall(before):
            return known
        found = file_digest(file, "sha256").hexdigest()
        if before == _state(file.fileno()) and begun - before.ctime_ns / 1e9 > SETTLED:
            _remember(before, found)
    return found


def hub_hash(path: Path) -> str | None:
    """The SHA-256 of a model's file in the Hugging Face hub's cache, which names large files by it; else None."""
    target = path.resolve()
    is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    return target.name if is_blob and _SHA256.fullmatch(target.name) else None


def _state(file: int) -> _State:
    status = os.fstat(file)
    return _State(str(status.st_dev), str(status.st_ino), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _recall(state: _State) -> str | None:
    path = default_folder() / NAME
    query = "SELECT hash FROM hashes WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?"
    with suppress(sqlite3.Error, OSError):
        if path.exists():
            with closing(sqlite3.connect(path, timeout=_WAIT)) as memory:
                row = memory.execute(query, astuple(state)).fetchone()
            if row and isinstance(row[0], str) and _SHA256.fullmatch(row[0]):
                return row[0]
    return _unwritten.get(state)


def _remember(state: _State, found: str) -> None:
    """Keep a hash. Where the folder does not allow it, only this process does."""
    if os.name != "posix":  # elsewhere no time of change is safe
        return
    folder = default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / NAME, timeout=_WAIT)) as memory, memory:
            memory.execute(_TABLE)
            memory.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", (*astuple(state), found))
            memory.execute("DELETE FROM hashes WHERE rowid <= (SELECT max(rowid) FROM hashes) - ?", (MOST,))
    except (sqlite3.OperationalError, OSError):  # read-only, full, or busy for long
        _unwritten[state] = found
    except sqlite3.DatabaseError:  # damaged: the next file begins anew
        with suppress(OSError):
            (folder / NAME).unlink(missing_ok=True)
