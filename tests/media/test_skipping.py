"""Frames that no other needs are not decoded, and those that are handed out are as if all had been."""

import av
import numpy as np
import pytest
from films import film

from ipcv.media.video import decoding
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.probe import probe

SIZE = 48, 64
COUNT = 60
HEVC = "log-level=error:keyint=30:min-keyint=30:bframes=4:b-pyramid=1:b-adapt=0"


def pictures():
    """Noise that moves, so that a frame without those that it refers to is seen to be wrong."""
    wide = np.random.default_rng(0).integers(0, 255, (SIZE[0], SIZE[1] + 3 * COUNT, 3), dtype=np.uint8)
    return [np.ascontiguousarray(wide[:, 3 * count : 3 * count + SIZE[1]]) for count in range(COUNT)]


def hevc(folder, layers, name="film.mp4"):
    options = {"x265-params": f"{HEVC}:temporal-layers={layers}"}
    return film(folder / name, "libx265", [n / 30 for n in range(COUNT)], pictures=pictures(), options=options)


def read(path, positions, monkeypatch):
    """The frames at some positions, and how many were decoded for them."""
    decoded, count = decoding.decoded, 0

    def counted(*given):
        nonlocal count
        frames = decoded(*given)
        count += len(frames)
        return frames

    monkeypatch.setattr(decoding, "decoded", counted)
    found = list(chosen_frames(probe(path), SIZE, positions, gaps := []))
    monkeypatch.undo()
    assert gaps == []
    return found, count


def every(path):
    with av.open(path) as container:
        return [
            frame.reformat(width=SIZE[1], height=SIZE[0], format="rgb24", interpolation="BICUBIC").to_ndarray()
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("position", range(0, COUNT, 11))
@pytest.mark.parametrize("layers", [1, 3])
def test_frames_of_hevc_are_those_of_decoding_all(tmp_path_factory, layers, position, monkeypatch):
    path = tmp_path_factory.getbasetemp() / f"layers-{layers}.mp4"
    if not path.exists():
        hevc(path.parent, layers, path.name)
    (found,), _ = read(path, [position], monkeypatch)
    assert np.array_equal(found, every(path)[position])


def test_hevc_is_skipped_where_it_has_one_layer_and_its_container_says_so(tmp_path, monkeypatch):
    decoded = {
        name: read(hevc(tmp_path, layers, name), [29], monkeypatch)[1]
        for name, layers in (("one.mp4", 1), ("one.mkv", 1), ("three.mp4", 3), ("one.ts", 1))
    }
    assert decoded["one.mp4"] == decoded["one.mkv"] < 20
    assert decoded["three.mp4"] == decoded["one.ts"] >= 30
