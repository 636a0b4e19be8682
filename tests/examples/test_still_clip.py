"""The still-camera films: repeated packets are one film that plays on, and what stands still hardly changes."""

import sys
from pathlib import Path

import numpy as np

from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from still_clip import still_film


def test_a_repeated_loop_plays_on_to_the_end_and_its_camera_stands_still(tmp_path):
    film = still_film(tmp_path, "drawn", seconds=6, height=64, rate=5, loop=2)
    with open_video(film, Sampling(fps=5)) as clip:
        frames = np.concatenate(list(clip)).astype(int)
    assert clip.times == tuple(number / 5 for number in range(30))
    assert clip.warnings == ()
    assert all(np.array_equal(frames[number], frames[number - 10]) for number in range(10, 30))
    steps = np.abs(np.diff(frames[:10], axis=0)).max(axis=3)
    assert (steps > 40).any()
    assert (steps < 20).mean() > 0.9


def test_a_film_that_is_there_is_not_made_again(tmp_path):
    film = still_film(tmp_path, "drawn", seconds=1, height=64, rate=5)
    written = film.stat().st_mtime_ns
    assert still_film(tmp_path, "drawn", seconds=1, height=64, rate=5).stat().st_mtime_ns == written
