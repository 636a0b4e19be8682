"""Videos behind URLs, through fsspec: listing them, telling whether they changed, copying them to a local file."""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ipcv.errors import VideoError, first_line
from ipcv.text import shown

_MARKS = ("ETag", "etag", "LastModified", "last_modified", "Last-Modified", "mtime", "created", "blob_id", "md5Hash")


def is_remote(path: str) -> bool:
    """Whether `path` is a URL such as `s3://bucket/clip.mp4`."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(".", "").isalnum()


def list_remote(url: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """List URLs, with paths for their side-cars: itself, all that a pattern matches, or all under one that ends with /.

    Raises `VideoError` if they cannot be listed.
    """
    if not url.endswith("/") and "*" not in url:
        yield url, url.rpartition("/")[2] or "video"
        return
    system, path = _open_system(url)
    try:
        names = system.glob(path) if "*" in path else system.find(path)
    except Exception as error:
        raise _failed(url, error) from error
    base = path.partition("*")[0].rpartition("/")[0] if "*" in path else path
    for name in sorted(names):
        if "*" in path or wanted(name):
            yield system.unstrip_protocol(name), name.removeprefix(base).lstrip("/")


def identity_of_remote(url: str) -> dict[str, Any]:
    """Collect what tells versions of a remote file apart: its size, and the marks of its store. Raises `VideoError`."""
    system, path = _open_system(url)
    try:
        info = system.info(path)
    except Exception as error:
        raise _failed(url, error) from error
    marks = "".join(f"{name}={info[name]};" for name in _MARKS if info.get(name) is not None)
    return {"size": info.get("size"), "hash": blake2b(marks.encode(), digest_size=16).hexdigest()}


def fetch(url: str, target: Path, limit: int) -> None:
    """Copy a remote file to `target`, at most about `limit` bytes. Raises `VideoError`."""
    from fsspec.callbacks import Callback  # only remote paths need it

    class Bounded(Callback):
        """Ends a copy that is or becomes too large."""

        def set_size(self, size: int | None) -> None:
            super().set_size(size)
            if size and size > limit:
                raise _too_large(url, limit)

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > limit:
                raise _too_large(url, limit)

    system, path = _open_system(url)
    try:
        system.get_file(path, str(target), callback=Bounded())
    except VideoError:
        raise
    except Exception as error:
        raise _failed(url, error) from error


def _too_large(url: str, limit: int) -> VideoError:
    return VideoError(f"{shown(url)} is larger than {limit:,} bytes: raise max_download")


def _open_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # only remote paths need it

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise VideoError(f"{shown(url)} needs a library: {first_line(error)}; pip install 'ipcv[remote]'") from error
    except Exception as error:
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> VideoError:
    if isinstance(error, FileNotFoundError):
        return VideoError(f"{shown(url)} does not exist: check the address")
    return VideoError(f"{shown(url)} cannot be fetched: {type(error).__name__}: {shown(first_line(error))}")
