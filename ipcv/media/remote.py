"""Videos behind URLs, through fsspec or the web: listed, told apart, and copied to a file of this machine."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ipcv.errors import ReadTimeoutError, VideoError, first_line
from ipcv.media.connection import ANSWER, CONNECT, TOTAL
from ipcv.media.video.container import check_file
from ipcv.media.web import copy_of_web, identity_of_web, is_web, too_large
from ipcv.text import shown

LISTING = 600.0  # seconds that listing a folder may take
MAX_DOWNLOAD = 4 << 30  # bytes
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "blob_id", "md5Hash")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Access:
    """How far a remote video may be followed. Raises `ValueError` for bad values."""

    max_download: int = MAX_DOWNLOAD  # bytes
    timeout: float | None = None  # seconds that a request may take, where that is less than usual
    allow_private: bool = False  # whether a redirect may lead from the internet to this machine or its network

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout:g} must be above 0")


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
    listed = system.glob if "*" in path else system.find
    names = _within(LISTING, url, lambda: list(listed(path)))
    base = path.partition("*")[0].rpartition("/")[0] if "*" in path else path
    for name in sorted(names):
        if "*" in path or wanted(name):
            yield system.unstrip_protocol(name), name.removeprefix(base).lstrip("/")


def identity_of_remote(url: str, access: Access) -> dict[str, Any]:
    """Collect what tells versions of a remote file apart: its size, and a hash of the marks of its store.

    The hash is "" where the store keeps no marks. Raises `VideoError`.
    """
    seconds = ANSWER if access.timeout is None else min(access.timeout, ANSWER)
    if is_web(url):  # in a thread, as nothing else bounds the time in which a name becomes an address
        most = seconds + CONNECT
        return _within(most, url, lambda: identity_of_web(url, seconds=seconds, allow_private=access.allow_private))
    system, path = _open_system(url)
    info = _within(seconds, url, lambda: system.info(path))
    marks = "".join(f"{name}={info[name]};" for name in _MARKS if info.get(name) is not None)
    return {"size": info.get("size"), "hash": marks and blake2b(marks.encode(), digest_size=16).hexdigest()}


def local_path(video: str, access: Access) -> Path | None:
    """The path of a file of this machine, also where it is given as a `file://` URL; None for other URLs.

    Raises `VideoError` if the file of a URL is none, or is too large.
    """
    if not is_remote(video):
        return Path(video)
    if video.partition("://")[0].lower() not in ("file", "local"):
        return None
    path = Path(_open_system(video)[1])
    check_file(path)
    if path.stat().st_size > access.max_download:
        raise too_large(video, access.max_download)
    return path


def ending(url: str) -> str:
    """The ending of the file that a URL names, such as ".png"; "" if it has none of the usual kind."""
    return found[0] if (found := re.search(r"\.[A-Za-z0-9]{1,5}$", urlsplit(url).path)) else ""


@contextmanager
def naming(url: str, copy: Path) -> Iterator[None]:
    """A `VideoError` in the `with` names the URL in place of its copy."""
    try:
        yield
    except VideoError as error:
        raise type(error)(str(error).replace(str(copy), shown(url))) from error


@contextmanager
def at_hand(video: str, access: Access, folder: Callable[[], AbstractContextManager[str | Path]]) -> Iterator[Path]:
    """A file of this machine; of a remote one a copy, in a `folder` that is open as long as this is.

    Raises `VideoError`; errors in the `with` name the URL.
    """
    with ExitStack() as stack:
        path = local_path(video, access)
        if path is None:
            path = Path(stack.enter_context(folder())) / f"video{ending(video)}"
            fetch(video, path, access)
        with naming(video, path):
            yield path


def fetch(url: str, target: Path, access: Access) -> None:
    """Copy a remote file to `target`. Raises `VideoError`."""
    most = TOTAL if access.timeout is None else access.timeout
    if is_web(url):
        copy_of_web(url, target, access.max_download, seconds=most, allow_private=access.allow_private)
        return
    from fsspec.callbacks import Callback  # only remote paths need it

    limit = access.max_download

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
    if (
        _within(min(ANSWER, most), url, lambda: system.info(path)).get("size") or 0
    ) > limit:  # not all stores tell a callback
        raise too_large(url, limit)
    _within(most, url, lambda: system.get_file(path, str(target), callback=Bounded()))


def _within(seconds: float, url: str, call: Callable[[], _Found]) -> _Found:
    """What `call` returns. Raises `VideoError` where it fails, or is not done in time: it is left alone then."""
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

    if any(is_web(part) for part in url.split("::")[1:]):  # it would go without the bounds of `media.web`
        raise VideoError(f"{shown(url)} leads to another web address: download that first")
    try:
        return url_to_fs(url, **(_web_options() if is_web(url) else {}))
    except ImportError as error:
        raise VideoError(f"{shown(url)} needs a library: {first_line(error)}; pip install 'ipcv[remote]'") from error
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
