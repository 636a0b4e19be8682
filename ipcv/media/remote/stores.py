"""Files in the stores that fsspec knows, such as S3: listed, told apart and copied, in a bounded time."""

import threading
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from ipcv.errors import ReadTimeoutError, VideoError, first_line
from ipcv.media.remote.connection import ANSWER, CONNECT
from ipcv.media.remote.web import is_web, too_large
from ipcv.text import shown

LISTING = 600.0  # seconds that listing a folder may take
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "blob_id", "md5Hash")
_Found = TypeVar("_Found")


def list_remote(url: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """List URLs, with paths for their side-cars: itself, all that a pattern matches, or all under one that ends with /.

    Raises `VideoError` if they cannot be listed.
    """
    if not url.endswith("/") and "*" not in url:
        yield url, url.rpartition("/")[2] or "video"
        return
    system, path = _open_system(url)
    listed = system.glob if "*" in path else system.find
    names = within(LISTING, url, lambda: list(listed(path)))
    base = path.partition("*")[0].rpartition("/")[0] if "*" in path else path
    for name in sorted(names):
        if "*" in path or wanted(name):
            yield system.unstrip_protocol(name), name.removeprefix(base).lstrip("/")


def identity_of_store(url: str, seconds: float) -> dict[str, Any]:
    """The size of a file, and a hash of its store's marks, "" if the store keeps none. Raises `VideoError`."""
    system, path = _open_system(url)
    info = within(seconds, url, lambda: system.info(path))
    marks = "".join(f"{name}={info[name]};" for name in _MARKS if info.get(name) is not None)
    return {"size": info.get("size"), "hash": marks and blake2b(marks.encode(), digest_size=16).hexdigest()}


def path_of(url: str) -> str:
    """The path within its store. Raises `VideoError`."""
    return _open_system(url)[1]


def copy_of_store(url: str, target: Path, limit: int, seconds: float) -> None:
    """Copy a file to `target`, at most `limit` bytes in at most so many `seconds`. Raises `VideoError`."""
    from fsspec.callbacks import Callback  # only remote paths need it

    class Bounded(Callback):
        """Ends a copy that is or becomes too large."""

        def set_size(self, size: int | None) -> None:
            super().set_size(size)
            if size and size > limit:
                raise too_large(url, limit)

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > limit:
                raise too_large(url, limit)

    system, path = _open_system(url)
    info = within(min(ANSWER, seconds), url, lambda: system.info(path))
    if (info.get("size") or 0) > limit:  # not all stores tell a callback
        raise too_large(url, limit)
    within(seconds, url, lambda: system.get_file(path, str(target), callback=Bounded()))


def within(seconds: float, url: str, call: Callable[[], _Found]) -> _Found:
    """Return the result of `call`. Raises `VideoError` where it fails or takes too long: it is left alone then."""
    done: list[_Found] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:  # belongs to whoever waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors and isinstance(errors[0], VideoError):
        raise errors[0]
    if errors:
        raise _failed(url, errors[0]) from errors[0]
    if not done:
        raise ReadTimeoutError(
            f"{shown(url)} cannot be fetched: there is no answer within {seconds:g} s: try again later"
        )
    return done[0]


def _open_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # only remote paths need it
    from fsspec.registry import known_implementations, registry

    if any(is_web(part) for part in url.split("::")[1:]):  # it would go without the bounds of `ipcv.media.remote.web`
        raise VideoError(f"{shown(url)} leads to another web address: download that first")
    for part in url.split("::"):
        kind, separator, _ = part.partition("://")
        if separator and kind not in known_implementations and kind not in registry:
            raise VideoError(
                f"{shown(url)} cannot be fetched: {shown(kind)}:// is no kind of address that is known; http://, "
                "https:// and s3:// are some"
            )
    try:
        return url_to_fs(url, **(_web_options() if is_web(url) else {}))
    except ImportError as error:
        raise VideoError(
            f"{shown(url)} needs a library: {first_line(error)}; install ipcv with its extra [remote]"
        ) from error
    except Exception as error:
        raise _failed(url, error) from error


def _web_options() -> dict[str, Any]:
    """Time limits for the lists of files that fsspec gets from web servers."""
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=LISTING, sock_connect=CONNECT, sock_read=ANSWER)}}


def _failed(url: str, error: Exception) -> VideoError:
    if isinstance(error, FileNotFoundError):
        return VideoError(f"{shown(url)} does not exist: check the address")
    if isinstance(error, PermissionError):
        return VideoError(f"{shown(url)} may not be read: log in to its store, or ask for permission")
    return VideoError(f"{shown(url)} cannot be fetched: {type(error).__name__}: {shown(first_line(error))}")
