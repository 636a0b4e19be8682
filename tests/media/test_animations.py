"""Animated WebP is a video like any other: every picture at its own time, transparent parts on white."""

import numpy as np
import pytest
from PIL import Image

import ipcv
from ipcv import Sampling
from ipcv.errors import VideoError

LEVELS = [10, 60, 110, 160, 210, 250]
DURATIONS = [100, 200, 50, 400, 250, 100]  # milliseconds


@pytest.fixture
def animation(tmp_path):
    """Six grey pictures with a transparent corner."""
    pictures = []
    for level in LEVELS:
        pixels = np.full((48, 64, 4), [level] * 3 + [255], np.uint8)
        pixels[:16, :16] = 0
        pictures.append(Image.fromarray(pixels))
    path = tmp_path / "moves.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=DURATIONS, lossless=True)
    return path


def test_an_animated_webp_is_read_as_a_video(animation):
    found = ipcv.read_frames(animation, Sampling(fps=20))
    assert found.times == pytest.approx([0.0, 0.1, 0.3, 0.35, 0.75, 1.0])
    assert np.abs(found.frames[:, 40, 40, 0].astype(int) - LEVELS).max() <= 2
    assert (found.frames[:, 4, 4] >= 250).all()
    assert found.facts.duration == pytest.approx(1.1)
    assert found.facts.frames == 6
    assert found.warnings == ()


def test_a_webp_of_one_picture_stays_an_image(tmp_path):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "still.webp")
    found = ipcv.read_frames(tmp_path / "still.webp")
    assert found.facts.container == "image"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_damaged_animation_is_one_line(animation, share):
    data = animation.read_bytes()
    animation.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError, match=r"moves\.webp") as error:
        ipcv.read_frames(animation)
    assert "\n" not in str(error.value)
