"""Animated WebP, which FFmpeg does not read: Pillow makes it an animated PNG in memory, picture for picture."""

import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from ipcv.errors import VideoError, first_line
from ipcv.text import shown, visible


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP of several pictures, judged by its first bytes. Raises `OSError`."""
    with path.open("rb") as file:
        head = file.read(21)
    return head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def animated_png(path: Path) -> BinaryIO:
    """An animated WebP as an animated PNG, with the same pictures and times. Raises `VideoError`."""
    status = path.stat()
    try:
        return io.BytesIO(_converted(path, (status.st_size, status.st_mtime_ns)))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        raise VideoError(f"{shown(path)} cannot be decoded ({visible(first_line(error))}): save it again") from error


@lru_cache(maxsize=1)  # a file is opened for its index, and then for its pictures
def _converted(path: Path, _state: tuple[int, int]) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with WebPImageFile(path) as image:
            lengths = [_length(image, index) for index in range(image.n_frames)]
            image.seek(0)
            image.save(made, format="PNG", save_all=True, duration=lengths, compress_level=1)
    return made.getvalue()


def _length(image: WebPImageFile, index: int) -> int:
    """How long a picture is shown, in milliseconds; Pillow knows it once the picture is decoded."""
    image.seek(index)
    image.load()
    return int(image.info["duration"])
