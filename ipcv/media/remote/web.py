"""Files behind http and https URLs: told apart, and copied with bounds on time and size."""

import time
from hashlib import blake2b
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipcv.errors import ReadTimeoutError, VideoError
from ipcv.media.remote.connection import ANSWER, SILENCE, TOTAL, RefusedError, opened
from ipcv.text import shown

PACE = 1000  # bytes per second that a server must send on average, once it has sent for `SILENCE`
AGAIN = 1.0  # seconds in which a server must answer that was silent less than `MEMORY` seconds ago
MEMORY = 60.0
_CHUNK = 1 << 20
_PAGE = (b"<!doctype html", b"<html")
_silent: dict[str, float] = {}  # by host, when it did not answer


def is_web(url: str) -> bool:
    """Whether it is an http or https URL."""
    return urlsplit(url).scheme.lower() in ("http", "https")


def identity_of_web(url: str, *, seconds: float = ANSWER, allow_private: bool = False) -> dict[str, Any]:
    """The size of a file, and a hash of its server's marks, "" if the server keeps none. Raises `VideoError`.

    A server that has just been silent gets less time: many videos of one that is down must not hold others up.
    """
    host, now = urlsplit(url).netloc, time.monotonic()
    was_silent = now - _silent.get(host, -MEMORY) < MEMORY
    try:
        found = _identity(url, min(seconds, ANSWER, AGAIN if was_silent else ANSWER), allow_private=allow_private)
    except ReadTimeoutError:
        _silent[host] = now
        raise
    _silent.pop(host, None)
    return found


def _identity(url: str, seconds: float, *, allow_private: bool) -> dict[str, Any]:
    with opened(url, seconds, allow_private=allow_private) as answer:
        marks = "".join(f"{name}={answer.headers[name]};" for name in ("ETag", "Last-Modified") if answer.headers[name])
        found = blake2b(marks.encode(errors="surrogateescape"), digest_size=16).hexdigest() if marks else ""
        return {"size": answer.length, "hash": found}


def copy_of_web(url: str, target: Path, limit: int, *, seconds: float = TOTAL, allow_private: bool = False) -> None:
    """Copy a file to `target`, at most `limit` bytes in at most about so many `seconds`. Raises `VideoError`."""
    patience = min(seconds, ANSWER)
    with opened(url, patience, total=seconds, allow_private=allow_private) as answer, target.open("wb") as file:
        length, received, begun = answer.length, 0, time.monotonic()
        if length is not None and length > limit:
            raise too_large(url, limit)
        while chunk := answer.read1(_CHUNK):
            if not received and _is_page(answer, chunk):
                raise VideoError(f"{shown(url)} is a web page, not a video: give the address of the video file itself")
            received += len(chunk)
            if received > limit:
                raise too_large(url, limit)
            _check_pace(received, time.monotonic() - begun)
            file.write(chunk)
        if length is not None and received < length:
            raise RefusedError(f"the connection broke off after {received:,} of {length:,} bytes: try again")


def too_large(url: str, limit: int) -> VideoError:
    """The error of a file that has more than `limit` bytes."""
    return VideoError(f"{shown(url)} is larger than {limit:,} bytes: raise max_download")


def _is_page(answer: HTTPResponse, start: bytes) -> bool:
    text = start[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kind = answer.headers.get_content_type()
    return text.startswith(_PAGE) or (kind in ("text/html", "application/xhtml+xml") and text.startswith(b"<"))


def _check_pace(received: int, seconds: float) -> None:
    if seconds > SILENCE and received < PACE * seconds:
        raise RefusedError(f"the server sends less than {PACE:,} bytes a second: try again later, or another address")
