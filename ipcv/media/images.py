"""Reading an image file as one upright picture, transparent parts on white."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from ipcv.errors import VideoError, first_line
from ipcv.media.display.stills import for_screen
from ipcv.media.frames import FrameArray, VideoFacts
from ipcv.media.video.animations import is_animated_webp
from ipcv.media.video.container import check_file, unreadable
from ipcv.text import shown, visible

_TURNS = {  # by the orientation that EXIF names
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def is_image(path: str | Path) -> bool:
    """Whether a file is an image, judged by the ending of its name; an animated WebP is a video."""
    path = Path(path)
    with suppress(OSError, ValueError):  # reading it says what is wrong
        if path.suffix.lower() == ".webp" and is_animated_webp(path):
            return False
    return path.suffix.lower() in ENDINGS


def read_image(path: str | Path) -> tuple[FrameArray, VideoFacts, tuple[str, ...]]:
    """Read a picture (uint8 RGB [height, width, 3]), its facts as a video of one frame, and warnings.

    Raises `VideoError`.
    """
    path = Path(path)
    check_file(path)
    with _explained(path), Image.open(path) as image:
        image.load()
        form, count = (image.format or "").lower(), getattr(image, "n_frames", 1)
        turn, damaged = _turn(image)
        picture, converted = for_screen(image if turn is None else image.transpose(turn))
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
    others = [f"only the first of {count} pictures in {shown(path)} is used"] if count > 1 else []
    return picture, facts, (*damaged, *converted, *others)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Every error of Pillow in the `with` becomes a `VideoError` of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow finds odd in a file that it reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise VideoError(f"{shown(path)} is too large a picture ({error}): scale it down") from error
    except UnidentifiedImageError as error:
        raise VideoError(f"{shown(path)} is not an image, or is damaged: try to open it, or convert it") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        raise VideoError(f"{shown(path)} cannot be decoded ({visible(first_line(error))}): save it again") from error


def _turn(image: Image.Image) -> tuple[Image.Transpose | None, list[str]]:
    """How a picture is turned upright by its EXIF data, and a warning where those are damaged."""
    damaged, turn = False, None
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            Image.Exif().load(image.info.get("exif", b""))  # `getexif` is silent on a second try
            turn = _TURNS.get(image.getexif().get(Base.Orientation, 1))
        except Exception:  # whatever it is, the picture is there
            damaged = True
    damaged |= any("EXIF" in str(each.message).upper() for each in noted)
    return turn, ["its EXIF data are damaged: it may lie on its side"] if damaged else []
