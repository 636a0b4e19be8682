"""Encodings on disk: another question about a video costs no reading and no encoding."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_cache_path
from safetensors import SafetensorError

from ipcv.encodings.encoded import Encoded
from ipcv.encodings.stored import packed, stored_path, unpacked
from ipcv.errors import first_line
from ipcv.files import expanded, replaced
from ipcv.text import visible

LIMIT = 10 * 10**9  # bytes
_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")


@dataclass(frozen=True)
class CacheEntry:
    """One encoding in the cache."""

    path: Path
    size: int  # bytes
    used: float  # when it was last of use, in seconds of the epoch
    video: str  # what it is of, "" if it cannot be read


class EncodingCache:
    """A folder of encodings, the least recently used ones removed where it grows past `limit` bytes.

    An entry that is damaged counts as missing and is removed. The folder is made with the first entry.
    """

    def __init__(self, folder: Path, limit: int = LIMIT, warn: Callable[[str], object] = lambda _: None) -> None:
        self.folder, self.limit, self._warn = folder, limit, warn

    def load(self, key: str, video: str, check: Callable[[Encoded], object] = lambda _: None) -> Encoded | None:
        """The encoding stored under `key`, with `video` as its path and 0 for its seconds; None if there is none.

        One for which `check` raises `ValueError` is damaged.
        """
        path = self._path(key)
        try:
            found = unpacked(path)
            check(found)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            self._warn(f"a damaged encoding is made again ({visible(first_line(error))})")
            with suppress(OSError):  # where it cannot be removed, it is found damaged again
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return replace(found, video=replace(found.video, path=video), reused=True)

    def store(self, key: str, encoded: Encoded) -> None:
        """Keep an encoding. What cannot be written is a warning: the answer does not depend on it."""
        data = packed(encoded, key)
        if len(data) > self.limit:
            self._warn(f"an encoding of {len(data):,} bytes is more than the cache may hold")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            with replaced(self._path(key)) as file:
                file.write(data)
        except OSError as error:
            self._warn(f"the encoding cannot be kept in {self.folder}: {error.strerror or error}")

    def entries(self) -> list[CacheEntry]:
        """All entries, the most recently used first."""
        found = [CacheEntry(path, status.st_size, status.st_mtime, _video(path)) for path, status in self._files()]
        return sorted(found, key=lambda entry: (-entry.used, entry.path))

    def clear(self) -> tuple[int, int]:
        """Remove all entries; how many there were, and their bytes."""
        entries = self.entries()
        for entry in entries:
            entry.path.unlink(missing_ok=True)
        return len(entries), sum(entry.size for entry in entries)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("*.safetensors"):
            if _NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another process has just removed it
                    yield path, path.stat()

    def _make_room(self, size: int) -> None:
        files = sorted(self._files(), key=lambda file: (file[1].st_mtime, file[1].st_size))
        held = sum(status.st_size for _, status in files)
        for path, status in files:
            if held + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            held -= status.st_size


def default_folder() -> Path:
    """Where `auto` keeps encodings: `$IPCV_CACHE`, or `ipcv` in the user's cache folder."""
    own = os.environ.get("IPCV_CACHE")
    return expanded(own) if own else user_cache_path("ipcv", appauthor=False)


def _video(path: Path) -> str:
    try:
        return stored_path(path)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError):
        return ""
