"""Reading an image file as one upright picture, transparent parts on white."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ipcv.errors import VideoError
from ipcv.media.frames import FrameArray, VideoFacts
from ipcv.media.video.container import check_file, explain
from ipcv.text import shown

ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def is_image(path: str | Path) -> bool:
    """Whether a file is an image, judged by the ending of its name."""
    return Path(path).suffix.lower() in ENDINGS


def read_image(path: str | Path) -> tuple[FrameArray, VideoFacts, tuple[str, ...]]:
    """Read a picture (uint8 RGB [height, width, 3]), its facts as a video of one frame, and warnings.

    Raises `VideoError`.
    """
    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                picture = _on_white(ImageOps.exif_transpose(image))
                form, count = (image.format or "").lower(), getattr(image, "n_frames", 1)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise VideoError(f"{shown(path)} is too large a picture ({error}): scale it down") from error
    except UnidentifiedImageError as error:
        raise VideoError(f"{shown(path)} is not an image, or is damaged: try to open it, or convert it") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise VideoError(explain(path, error)) from error
        raise VideoError(f"{shown(path)} cannot be decoded ({error}): save it again") from error
    height, width = picture.shape[:2]
    facts = VideoFacts(
        path=str(path),
        duration=0.0,
        width=width,
        height=height,
        fps=0.0,
        frames=1,
        codec=form,
        container="image",
        rotation=0,
        reader="pillow",
    )
    told = (f"only the first of {count} pictures in {shown(path)} is used",) if count > 1 else ()
    return picture, facts, told


def _on_white(image: Image.Image) -> FrameArray:
    """Lay transparent parts on white, and return the pixels."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)
