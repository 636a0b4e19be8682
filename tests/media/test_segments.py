"""Segments: fixed windows, and scenes where the picture changes at once."""

from itertools import islice

import numpy as np
import pytest
from films import film

from ipcv.media.segments import Segments, scenes, windows
from ipcv.media.video.probe import probe


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """Three scenes: red, green and blue noise, cut at 2 and at 5 seconds."""
    generator = np.random.default_rng(0)
    pictures = []
    for index in range(80):
        picture = np.zeros((96, 160, 3), np.uint8)
        picture[..., 0 if index < 20 else 1 if index < 50 else 2] = generator.integers(150, 255, (96, 160))
        pictures.append(picture)
    return film(tmp_path_factory.mktemp("cut") / "cut.mp4", times=[i / 10 for i in range(80)], pictures=pictures)


@pytest.mark.parametrize(
    ("seconds", "start", "end", "found"),
    [
        (10, 0, 25, [(0, 10), (10, 20), (20, 25)]),
        (10, 5, 15, [(5, 15)]),
        (10, 0, 10.0005, [(0, 10.0005)]),
        (0.5, 1, 2, [(1, 1.5), (1.5, 2)]),
    ],
)
def test_windows_follow_one_another_to_the_end(seconds, start, end, found):
    assert list(windows(seconds, start, end)) == found


def test_windows_are_made_one_at_a_time():
    """A damaged time stamp may promise a video of centuries."""
    assert list(islice(windows(10, 0, 1e16), 2)) == [(0, 10), (10, 20)]


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("1:30", 90), ("2.5", 2.5), ("scenes", None)])
def test_they_are_written_as_times_are(text, seconds):
    assert Segments.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["", "s", "often", "0", "0.05s", "1:75"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="segments"):
        Segments.parse(text)


def test_scenes_begin_where_the_picture_changes(cut):
    video = probe(cut)
    found = list(scenes(video, 0.0, 8.0))
    assert np.allclose(found, [(0, 2), (2, 5), (5, 8)], atol=0.15)
    assert np.allclose(list(scenes(video, 3.0, 6.0)), [(3, 5), (5, 6)], atol=0.15)
    assert list(scenes(video, 6.0, 8.0)) == [(6.0, 8.0)]
