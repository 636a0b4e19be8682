"""Videos in a folder: told by the ending of their names, or by their first bytes; what is passed over is counted."""

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from ipcv.batch.first_bytes import HEAD, is_animated, is_text, is_video
from ipcv.text import shown


def _endings(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


VIDEOS = _endings(
    "264 265 3g2 3gp amv apng asf avc avi divx dv f4v flv gif h264 h265 hevc insv ivf lrv m1v m2p m2t m2ts m2v m4v "
    "mjpeg mjpg mk3d mkv mov mp2v mp4 mpe mpeg mpg mpv mts mxf nut obu ogm ogv qt rm rmvb trp ts vob webm wmv wtv y4m"
)
PERHAPS_TEXT = _endings("mts ts")  # also TypeScript
PERHAPS_STILL = _endings("webp")  # a video if it is animated
OTHERS = _endings(  # never opened: stills, sound, text, archives, data, and downloads that are not finished
    "avif bmp cr2 dng heic heif ico jpeg jpg nef png psd raw svg tga tif tiff "
    "aac aif aiff amr flac m4a m4b mid mka mp3 oga opus wav wma "
    "ass bib c cfg conf cpp css csv doc docx h htm html ini ipynb js json jsonl log lrc md pdf ppt pptx py rst rtf sh "
    "smi srt ssa sub tex toml tsv txt vtt xls xlsx xml yaml yml "
    "7z bz2 db gz iso lock parquet pkl pt rar safetensors npy npz sqlite tar xz zip zst "
    "aria2 crdownload download part partial tmp"
)


@dataclass(frozen=True)
class Choice:
    """Which files of a folder are taken."""

    take: Sequence[str] = ()  # patterns of files that are taken whatever they are; without any, videos are
    leave: Sequence[str] = ()  # patterns of files and folders that are left out
    passed: Counter[str] = field(default_factory=Counter)  # gets what is no video, by ending

    def wants(self, place: str | Path, file: Path | None) -> bool:
        """Whether the file at `place` under the folder is taken; `file` is None where it cannot be looked into."""
        place = Path(place)
        if _matches(place, self.leave):
            return False
        if self.take:
            return _matches(place, self.take)
        if _is_video(place.suffix.lower(), file):
            return True
        self.passed[place.suffix.lower() or "without an ending"] += 1
        return False

    def walk(self, root: Path) -> list[tuple[Path, str | None]]:
        """Files under `root`, and folders that cannot be listed, each of these with the reason; sorted by path."""
        found: list[tuple[Path, str | None]] = []
        seen: set[tuple[int, int]] = set()
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                entries = sorted(folder.iterdir(), reverse=True)
            except OSError as error:
                found.append((folder, f"{shown(folder)} cannot be listed: {error.strerror}"))
                continue
            for entry in entries:
                place = entry.relative_to(root)
                if entry.name.startswith("."):
                    if not self.take and entry.suffix.lower() in VIDEOS:
                        self.passed["hidden"] += 1
                elif is_folder(entry):
                    if not _matches(place, self.leave):
                        waiting.append(entry)
                elif self.wants(place, entry):
                    found.append((entry, None))
        return sorted(found)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, or a link to one."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # a broken link, say, or a name that is too long: it is an item, which then fails
        return False


def summary(passed: Counter[str]) -> str:
    """Counts of files that were passed over, by ending, the most frequent first."""
    return ", ".join(f"{count} {shown(ending)}" for ending, count in passed.most_common())


def _is_video(ending: str, file: Path | None) -> bool:
    if ending in OTHERS:
        return False
    if file is None:
        return ending in VIDEOS
    if ending in PERHAPS_TEXT:
        return not is_text(_head(file))
    if ending in PERHAPS_STILL:
        return is_animated(_head(file))
    return ending in VIDEOS or is_video(_head(file))


def _head(file: Path) -> bytes:
    """The first bytes of a file; none of what is no file or cannot be read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return b""
        with file.open("rb") as opened:
            return opened.read(HEAD)
    except (OSError, ValueError):
        return b""


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path.as_posix() if "/" in pattern else path.name, pattern) for pattern in patterns)
