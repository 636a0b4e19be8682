"""Remote videos told apart, and copied to files of this machine."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipcv.errors import VideoError
from ipcv.media.remote.access import Access, is_remote
from ipcv.media.remote.connection import ANSWER, CONNECT, TOTAL
from ipcv.media.remote.stores import copy_of_store, identity_of_store, path_of, within
from ipcv.media.remote.web import copy_of_web, identity_of_web, is_web, too_large
from ipcv.media.video.container import check_file
from ipcv.text import shown


def identity_of_remote(url: str, access: Access) -> dict[str, Any]:
    """Collect what tells versions of a remote file apart: its size, and a hash of the marks of its store.

    The hash is "" where the store keeps no marks. Raises `VideoError`.
    """
    seconds = ANSWER if access.timeout is None else min(access.timeout, ANSWER)
    if is_web(url):  # in a thread, as nothing else bounds the time in which a name becomes an address
        most = seconds + CONNECT
        return within(most, url, lambda: identity_of_web(url, seconds=seconds, allow_private=access.allow_private))
    return identity_of_store(url, seconds)


def local_path(video: str, access: Access) -> Path | None:
    """The path of a file of this machine, also where it is given as a `file://` URL; None for other URLs.

    Raises `VideoError` for a URL that cannot be one, and if the file of a URL is none, or is too large.
    """
    if not is_remote(video):
        return Path(video)
    try:
        urlsplit(video)
    except ValueError as error:
        raise VideoError(f"{shown(video)} is no address that can be fetched ({error}): check it") from error
    if video.partition("://")[0].lower() not in ("file", "local"):
        return None
    path = Path(path_of(video))
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
    seconds = TOTAL if access.timeout is None else access.timeout
    if is_web(url):
        copy_of_web(url, target, access.max_download, seconds=seconds, allow_private=access.allow_private)
    else:
        copy_of_store(url, target, access.max_download, seconds)
