"""Files behind http and https URLs: told apart, and copied with bounds on time and size."""

import time
from hashlib import blake2b
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipcv.errors import VideoError
from ipcv.media.connection import ANSWER, SILENCE, TOTAL, RefusedError, opened
from ipcv.text import shown

PACE = 1000  # bytes per second that a server must send on average, once it has sent for `SILENCE`
_CHUNK = 1 << 20
_PAGE = (b"<!doctype html", b"<html")


def is_web(url: str) -> bool:
    """Whether it is an http or https URL."""
    return urlsplit(url).scheme.lower() in ("http", "https")


def identity_of_web(url: str, *, seconds: float = ANSWER, allow_private: bool = False) -> dict[str, Any]:
    """The size of a file, and a hash of its server's marks, "" if the server keeps none. Raises `VideoError`."""
    with opened(url, min(seconds, ANSWER), allow_private=allow_private) as answer:
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
