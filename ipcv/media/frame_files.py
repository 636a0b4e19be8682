"""Writing what a model is shown of a video: a folder of pictures named by time, or one contact sheet."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from ipcv.files import replaced
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameArray, FrameSize, MediaKind, VideoFacts
from ipcv.media.sampling import Sampling
from ipcv.media.sources import FoundFile, find, open_frames, within
from ipcv.text import shown

SHEETS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # what a name of a contact sheet ends with
INDEX = "index.json"
_PICTURE = re.compile(r"\d{4,}_\d+h\d\dm\d\d\.\d{3}s\.png")
_THUMBNAIL, _LABEL, _GAP = 320, 18, 4  # pixels: the longer side, the height of the time below, what lies between
_SHEET = 12_000  # pixels: about the longest side of a sheet


class Reader(Protocol):
    """A reader of files, perhaps in a process of its own."""

    def find(self, video: str | Path, /) -> FoundFile:
        """As `ipcv.media.sources.find`."""
        ...

    def through(self, clip: Clip, /) -> Clip:
        """`clip` with its frames read by this."""
        ...


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """One picture that a model is shown."""

    time: float  # seconds of source time at which it appears
    picture: str | None  # its file, in the folder of the index; None on a contact sheet


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """All pictures that a model is shown of one video or image."""

    kind: MediaKind
    video: VideoFacts
    output: str  # the folder or the contact sheet
    frames: tuple[ShownFrame, ...]
    warnings: tuple[str, ...]


def write_frames(
    video: str | Path,
    output: str | Path,
    sampling: Sampling | None = None,
    *,
    max_pixels: int | None = None,
    overwrite: bool = False,
    reader: Reader | None = None,
) -> ShownFrames:
    """Write the frames of `ipcv.read_frames` as pictures into a folder with an index, or as one contact sheet.

    It is a sheet where the name of `output` ends as that of an image. Nothing is replaced without `overwrite`.
    `reader`: what reads the video, such as an `ipcv.readers.single.FileReader`; None: this process.
    Raises `VideoError` for the video, `OSError` and `ValueError` for the output.
    """
    output = Path(output)
    is_sheet = output.suffix.lower() in SHEETS and not output.is_dir()
    if not is_sheet and output.suffix.lower() in Image.registered_extensions() and not output.is_dir():
        raise ValueError(f"{shown(output)}: a sheet ends in {', '.join(SHEETS)}; a folder in none of an image")
    old = _check_sheet(output, overwrite=overwrite) if is_sheet else _check_folder(output, overwrite=overwrite)
    found = reader.find(video) if reader else find(video)
    clip = open_frames(found, sampling, resize=_thumbnail if is_sheet else within(max_pixels))
    with reader.through(clip) if reader else clip as clip:
        if is_sheet:
            _write_sheet(output, clip)
            return _listed(clip, output, [None] * len(clip.times))
        names = [_name(number, time) for number, time in enumerate(clip.times, 1)]
        output.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(names, _pictures(clip), strict=True):
            _save(Image.fromarray(picture), output / name, "PNG")
    listed = _listed(clip, output, names)
    for name in old - set(names):
        (output / name).unlink(missing_ok=True)
    with replaced(output / INDEX) as file:
        file.write(json.dumps(asdict(listed), indent=2).encode() + b"\n")
    return listed


def _listed(clip: Clip, output: Path, names: Iterable[str | None]) -> ShownFrames:
    return ShownFrames(
        kind=clip.kind,
        video=clip.facts,
        output=str(output),
        frames=tuple(ShownFrame(time=time, picture=name) for time, name in zip(clip.times, names, strict=True)),
        warnings=clip.warnings,
    )


def _check_sheet(output: Path, *, overwrite: bool) -> set[str]:
    """Raise `ValueError` if a sheet may not be written there."""
    if output.exists() and not output.is_file():
        raise ValueError(f"{shown(output)} is no ordinary file: name another one for the contact sheet")
    if output.exists() and not overwrite:
        raise ValueError(f"{shown(output)} is there already: name another file, or give `overwrite`")
    if not output.parent.is_dir():
        raise ValueError(f"{shown(output.parent)} is no folder: make it first")
    return set()


def _check_folder(output: Path, *, overwrite: bool) -> set[str]:
    """The pictures of an earlier run that are in the folder. Raises `ValueError` if they may not be replaced."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{shown(output)} is a file: name a folder, or a contact sheet: {', '.join(SHEETS)}")
    old = {each.name for each in output.glob("*.png") if _PICTURE.fullmatch(each.name)} if output.exists() else set()
    if (old or (output / INDEX).exists()) and not overwrite:
        raise ValueError(f"{shown(output)} holds frames already: name another folder, or give `overwrite`")
    return old


def _name(number: int, time: float) -> str:
    """Number and time of a picture: names in their order are in the order of the frames.

    >>> _name(12, 3725.25)
    '0012_1h02m05.250s.png'
    """
    minutes, milliseconds = divmod(round(time * 1000), 60_000)
    return f"{number:04d}_{minutes // 60}h{minutes % 60:02d}m{milliseconds / 1000:06.3f}s.png"


def _pictures(clip: Clip) -> Iterator[FrameArray]:
    for batch in clip:
        yield from batch


def _save(picture: Image.Image, path: Path, form: str) -> None:
    with replaced(path) as file:
        picture.save(file, form)


def _thumbnail(height: int, width: int, frames: int) -> FrameSize:
    side = min(_THUMBNAIL, _SHEET // _columns(frames))
    scale = min(side / max(height, width), 1.0)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _columns(frames: int) -> int:
    return ceil(sqrt(frames))


def _write_sheet(path: Path, clip: Clip) -> None:
    """Draw all frames side by side, with the time below each."""
    height, width = clip.size
    columns = _columns(len(clip.times))
    rows = ceil(len(clip.times) / columns)
    across, down = max(width, 60) + _GAP, height + _LABEL + _GAP
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (time, picture) in enumerate(zip(clip.times, _pictures(clip), strict=True)):
        left, top = _GAP + index % columns * across, _GAP + index // columns * down
        sheet.paste(Image.fromarray(picture), (left, top))
        draw.text((left, top + height + 2), _clock(time), fill="black", font=font)
    _save(sheet, path, SHEETS[path.suffix.lower()])


def _clock(time: float) -> str:
    minutes, milliseconds = divmod(round(time * 1000), 60_000)
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    return f"{hours}:{milliseconds / 1000:06.3f}"
