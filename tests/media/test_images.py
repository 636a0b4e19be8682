"""Reading image files: with damaged EXIF data, of more than eight bits, in other colours."""

import random
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from films import corner_colours, quarters
from PIL import Image, ImageCms

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
    """Sixty files with a few wrong bytes in the first 160 of their EXIF data."""
    generator = random.Random(0)
    good = picture(tmp_path / "good", form, exif()).read_bytes()
    start = max(good.find(b"MM\0*"), good.find(b"II*\0"))
    read = 0
    for _ in range(60):
        content = bytearray(good)
        for _ in range(generator.choice((1, 2, 4, 12))):
            content[min(start + generator.randrange(160), len(content) - 1)] = generator.randrange(256)
        (tmp_path / "damaged").write_bytes(content)
        with suppress(VideoError):
            read += bool(np.any(read_image(tmp_path / "damaged")[0]))
    assert read > 0


def test_sixteen_bits_become_eight(tmp_path):
    steps = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(4, axis=0)
    Image.fromarray(steps).save(tmp_path / "deep.png")
    shown, _, told = read_image(tmp_path / "deep.png")
    assert np.array_equal(shown, np.arange(256)[None, :, None].repeat(4, axis=0).repeat(3, axis=2))
    assert told == ()


@pytest.mark.parametrize(
    ("kind", "said"), [(np.float32, "-1 to 3"), (np.int32, "-10 to 30")], ids=["fractions", "whole numbers"]
)
def test_other_numbers_are_stretched_and_that_is_told(tmp_path, kind, said):
    low, high = (float(word) for word in said.split(" to "))
    Image.fromarray(np.array([[low, (low + high) / 2, high]] * 2, kind)).save(tmp_path / "measured.tiff")
    shown, _, told = read_image(tmp_path / "measured.tiff")
    assert shown[0, :, 0].tolist() == [0, 128, 255]
    assert told == (f"its values, {said}, are shown as black to white",)


def wide_profile() -> bytes:
    """The profile of a screen whose red and green are further out: sRGB's, with two colorants of Display P3."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for tag, color in ((b"rXYZ", (0.5151, 0.2412, -0.0011)), (b"gXYZ", (0.2920, 0.6922, 0.0419))):
        place = int.from_bytes(profile[profile.index(tag) + 4 :][:4], "big") + 8
        profile[place : place + 12] = struct.pack(">3i", *(round(value * 65536) for value in color))
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))


@pytest.mark.parametrize("alpha", [(), (128,)], ids=["opaque", "half transparent"])
def test_wide_colours_become_those_of_an_ordinary_screen(tmp_path, alpha):
    color = (200, 60, 60, *alpha)
    Image.new("RGBA" if alpha else "RGB", (8, 8), color).save(tmp_path / "wide.png", icc_profile=wide_profile())
    red, green, _ = read_image(tmp_path / "wide.png")[0][4, 4].astype(int)
    told = read_image(tmp_path / "wide.png")[2]
    assert told == ()
    if alpha:
        red, green = (round((value - 127) * 255 / 128) for value in (red, green))
    assert red > 208
    assert green < 56


def test_a_damaged_profile_is_told(tmp_path):
    Image.new("RGB", (8, 8), (200, 60, 60)).save(tmp_path / "p.png", icc_profile=wide_profile()[:200])
    shown, _, told = read_image(tmp_path / "p.png")
    assert shown[0, 0].tolist() == [200, 60, 60]
    assert told == ("its colour profile is damaged: its colours are shown without it",)
