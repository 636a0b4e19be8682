"""Clips of the world as files: real videos, and questions that fit them."""

import json

import av
import numpy as np
import pytest

from ipcv.benchmark import dataset
from ipcv.benchmark.dataset import write_world
from ipcv.benchmark.wordings import KINDS
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_scene
from ipcv.world.scene import HELD_OUT_SEEDS


def written(folder):
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def test_every_clip_is_there_with_a_question_of_each_kind_that_it_has(tmp_path):
    folder = tmp_path / "new" / "world"
    assert list(write_world(folder, 2, 7)) == [1, 2]
    lines = written(folder)
    videos = {line["video"] for line in lines}
    assert {path.name for path in folder.iterdir()} == {"questions.jsonl", *videos}
    assert len(videos) == 2
    assert len({line["id"] for line in lines}) == len(lines)
    for video in videos:
        mine = [line for line in lines if line["video"] == video]
        scene = make_scene(mine[0]["seed"])
        assert mine[0]["seed"] in HELD_OUT_SEEDS
        assert {"caption", "count", "existence"} <= {line["kind"] for line in mine} <= set(KINDS)
        assert len({line["kind"] for line in mine}) == len(mine)
        with av.open(str(folder / video)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (scene.size, scene.size, 16)
            assert stream.frames == 16 * scene.seconds


def test_the_same_seed_writes_the_same_and_another_one_does_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        list(write_world(tmp_path / name, 1, seed))
    first, again, other = ((tmp_path / name / "questions.jsonl").read_text() for name in "abc")
    assert first == again != other
    assert (tmp_path / "a/clip-0000.mp4").read_bytes() == (tmp_path / "b/clip-0000.mp4").read_bytes()


def test_a_line_says_which_camera_films_its_scene(tmp_path):
    for camera in (None, "still"):
        list(write_world(tmp_path, 1, 3, camera=camera, overwrite=True))
        line = written(tmp_path)[0]
        assert line["camera"] == camera
        with av.open(str(tmp_path / line["video"])) as container:
            first = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
        scene = make_scene(line["seed"], line["camera"])
        assert np.abs(first - scene.render([0.0], scene.size).frames[0]).mean() < 6


def test_what_is_there_is_kept_unless_it_is_to_be_overwritten(tmp_path):
    (tmp_path / "clip-0000.mp4").write_text("mine")
    with pytest.raises(ValueError, match=r"has a clip-0000\.mp4 already"):
        next(write_world(tmp_path, 1, 0))
    assert (tmp_path / "clip-0000.mp4").read_text() == "mine"
    list(write_world(tmp_path, 1, 0, overwrite=True))
    assert (tmp_path / "clip-0000.mp4").stat().st_size > 1000


def test_no_questions_are_left_about_clips_that_were_not_finished(tmp_path):
    list(write_world(tmp_path, 1, 0))
    next(write_world(tmp_path, 2, 1, overwrite=True))
    assert not (tmp_path / "questions.jsonl").exists()


def test_old_clips_go_with_their_questions_and_nothing_else_does(tmp_path):
    list(write_world(tmp_path, 2, 0))
    (tmp_path / "clip-9999.mp4").write_text("mine")
    list(write_world(tmp_path, 1, 1, overwrite=True))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"clip-0000.mp4", "clip-9999.mp4", "questions.jsonl"}


def test_a_clip_that_breaks_off_leaves_no_part_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "write_clip", lambda path, _: (path.write_text("half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        next(write_world(tmp_path, 1, 0))
    assert not list(tmp_path.iterdir())


def test_a_written_clip_has_its_frames_at_its_rate(tmp_path):
    for fps in (16, 2.5):
        clip = make_scene(9).render([i / fps for i in range(8)], 96)
        write_clip(tmp_path / "clip.mp4", clip)
        with av.open(str(tmp_path / "clip.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", fps)
            frames = list(container.decode(stream))
        assert [float(frame.time) for frame in frames] == pytest.approx(list(clip.times))
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(float)
        assert np.abs(read - clip.frames).mean() < 6


def test_a_single_frame_is_no_clip(tmp_path):
    with pytest.raises(ValueError, match="no frame rate"):
        write_clip(tmp_path / "clip.mp4", make_scene(9).render([0.0], 96))


@pytest.mark.parametrize(("count", "seed", "complaint"), [(0, 0, "clips=0"), (1, -1, "seed=-1")])
def test_numbers_that_make_no_sense_are_refused(tmp_path, count, seed, complaint):
    with pytest.raises(ValueError, match=complaint):
        next(write_world(tmp_path, count, seed))
