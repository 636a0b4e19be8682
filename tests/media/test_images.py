"""Reading image files whose EXIF data are damaged."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from films import corner_colours, quarters
from PIL import Image

from ipcv.errors import VideoError
from ipcv.media.images import read_image


def exif() -> bytes:
    """Turned clockwise, with a text, a number and an inner directory."""
    found = Image.Exif()
    found[0x0112], found[0x010F], found[0x011A] = 6, "maker", 72.5
    found.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    return found.tobytes()


def picture(path: Path, form: str, about: bytes) -> Path:
    Image.fromarray(quarters(80, 160)).save(path, form, exif=about, quality=95)
    return path


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_told_and_the_picture_is_read(tmp_path, form):
    start = exif().index(b"*") - 2
    damaged = exif()[:start] + b"??" + exif()[start + 2 :]
    shown, facts, told = read_image(picture(tmp_path / "p", form, damaged))
    assert corner_colours(shown) == "RGBW"
    assert (facts.height, facts.width) == (80, 160)
    assert told == ("its EXIF data are damaged: it may lie on its side",)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_good_exif_turns_it_without_a_word(tmp_path, form):
    shown, _, told = read_image(picture(tmp_path / "p", form, exif()))
    assert corner_colours(shown) == "BRWG"
    assert told == ()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF"])
def test_no_damage_to_exif_is_more_than_a_video_error(tmp_path, form):
    """Two hundred files with a few wrong bytes in the first 160 of their EXIF data."""
    generator = random.Random(0)
    good = picture(tmp_path / "good", form, exif()).read_bytes()
    start = max(good.find(b"MM\0*"), good.find(b"II*\0"))
    read = 0
    for _ in range(200):
        content = bytearray(good)
        for _ in range(generator.choice((1, 2, 4, 12))):
            content[min(start + generator.randrange(160), len(content) - 1)] = generator.randrange(256)
        (tmp_path / "damaged").write_bytes(content)
        with suppress(VideoError):
            read += bool(np.any(read_image(tmp_path / "damaged")[0]))
    assert read > 0
