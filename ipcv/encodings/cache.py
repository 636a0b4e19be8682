"""Encodings on disk: another question about a video costs no reading and no encoding."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from pydantic import ByteSize, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ipcv.architecture.visual import Visual
from ipcv.encodings.encoded import Encoded
from ipcv.files import expanded, replaced
from ipcv.limits.budget import Lowered, Share
from ipcv.media.frames import VideoFacts

LIMIT = 10 * 10**9  # bytes
VERSION = 4
_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
_SIZE = re.compile(r"[0-9.]+\s*[A-Za-z]*")


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

    def load(self, key: str, video: str) -> Encoded | None:
        """The encoding stored under `key`, with `video` as its path and 0 for its seconds; None if there is none."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["ipcv"])
                visual = Visual(file.get_tensor("visual"), file.get_tensor("deepstack"))
            found = _encoded(visual, about)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
            self._warn(f"a damaged encoding is made again ({error})")
            with suppress(OSError):  # where it cannot be removed, it is found damaged again
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return replace(found, video=replace(found.video, path=video), reused=True)

    def store(self, key: str, encoded: Encoded) -> None:
        """Keep an encoding. What cannot be written is a warning: the answer does not depend on it."""
        parts = {"visual": encoded.visual.tokens, "deepstack": encoded.visual.deepstack}
        tensors = {name: part.detach().cpu().contiguous() for name, part in parts.items()}
        about = {
            "version": VERSION,
            "hash": _hash(*tensors.values()),
            "grid": encoded.grid,
            "video": asdict(encoded.video),
            "times": encoded.times,
            "size": encoded.size,
            "passes": encoded.passes,
            "kept": encoded.kept,
            "expected": encoded.expected,
            "warnings": encoded.warnings,
            "frame_batch": encoded.frame_batch,
            "kind": encoded.kind,
            "share": encoded.share and asdict(encoded.share),
        }
        data = save(tensors, {"ipcv": json.dumps(about)})
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


def parse_size(text: str) -> int:
    """Bytes from `500MB`, `10GiB`, `10G` or a number. Raises `ValueError`."""
    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = None
    if size is None or not _SIZE.fullmatch(text.strip()):  # ByteSize passes over what stands behind the unit
        raise ValueError(f"{text!r} is not a size: write 500MB or 10GiB")
    return int(size)


def _hash(*tensors: Tensor) -> str:
    found = blake2b(digest_size=16)
    for tensor in tensors:
        found.update(tensor.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _encoded(visual: Visual, about: dict[str, Any]) -> Encoded:
    """The encoding of stored parts. Raises `ValueError` if they are not whole."""
    if about["version"] != VERSION or about["hash"] != _hash(visual.tokens, visual.deepstack):
        raise ValueError("its checksum is another one")
    time, rows, columns = about["grid"]
    height, width = about["size"]
    return Encoded(
        visual=visual,
        grid=(time, rows, columns),
        video=VideoFacts(**about["video"]),
        times=tuple(about["times"]),
        size=(height, width),
        passes=tuple(map(tuple, about["passes"])),
        kept=tuple(map(tuple, about["kept"])),
        warnings=tuple(about["warnings"]),
        expected=tuple(about.get("expected", ())),
        seconds={"read": 0.0, "preprocess": 0.0, "encode": 0.0},
        frame_batch=about["frame_batch"],
        kind=about["kind"],
        share=about["share"] and _share(**about["share"]),
    )


def _share(*, lowered: list[dict[str, Any]], **numbers: int) -> Share:
    return Share(**numbers, lowered=tuple(Lowered(**each) for each in lowered))


def _video(path: Path) -> str:
    try:
        with safe_open(path, "pt") as file:
            return str(json.loads(file.metadata()["ipcv"])["video"]["path"])
    except (SafetensorError, OSError, ValueError, LookupError, TypeError):
        return ""
