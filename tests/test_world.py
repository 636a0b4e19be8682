from dataclasses import replace

import av
import numpy as np
import pytest

from ipcv.world import (
    COLOURS,
    HELD_OUT_SEEDS,
    MOTIONS,
    SECONDS,
    SHAPES,
    TRAINING_SEEDS,
    make_clip,
    make_scene,
    write_clip,
)


def test_a_seed_fixes_every_pixel():
    assert np.array_equal(make_clip(7).frames, make_clip(7).frames)
    assert not np.array_equal(make_clip(7).frames, make_clip(8).frames)


def test_training_and_held_out_seeds_do_not_meet():
    assert TRAINING_SEEDS[0] < TRAINING_SEEDS[-1] < HELD_OUT_SEEDS[0] < HELD_OUT_SEEDS[-1]


def test_the_same_moment_looks_the_same_at_any_frame_rate():
    slow, fast = make_clip(3, size=64, fps=2), make_clip(3, size=64, fps=16)
    assert fast.times[::8] == slow.times
    assert np.array_equal(fast.frames[::8], slow.frames)


def test_a_larger_frame_shows_the_same_scene():
    small, large = (make_clip(5, size=size, fps=1).frames.astype(float) for size in (112, 224))
    shrunk = large.reshape(4, 112, 2, 112, 2, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 3


@pytest.mark.parametrize("seed", range(40))
def test_objects_stay_inside_the_frame_and_apart_and_differ_in_colour(seed):
    things = make_scene(seed).things
    assert 1 <= len(things) == len({thing.colour for thing in things}) <= 3
    for time in np.linspace(0, SECONDS, 9):
        total = np.zeros((64, 64))
        for thing in things:
            rows, columns, cover = thing.coverage(time, 64)
            total[rows, columns] += cover
            whole = replace(thing, start=(0.5, 0.5), motion="still").coverage(0, 64)[2]
            assert cover.sum() == pytest.approx(whole.sum(), rel=0.02)
        assert total.max() < 1.001


def test_pixels_at_an_objects_centre_have_its_colour():
    clip = make_clip(11, size=112)
    for thing in clip.things:
        for frame, time in zip(clip.frames, clip.times, strict=True):
            column, row = (int(c * 112) for c in thing.centre(time))
            assert np.abs(frame[row, column] - np.array(thing.rgb)).max() < 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_objects_move_as_their_motion_says(motion):
    thing = next(t for seed in range(100) for t in make_scene(seed).things if t.motion == motion)
    (x0, y0), (x1, y1) = thing.centre(0), thing.centre(2)
    assert np.allclose([x1 - x0, y1 - y0], np.array(MOTIONS[motion]) * thing.speed * 2)


def test_colours_shapes_motions_and_counts_are_even():
    scenes = [make_scene(seed).things for seed in range(600)]
    for name, values in (("colour", COLOURS), ("shape", SHAPES), ("motion", MOTIONS)):
        drawn = [getattr(thing, name) for things in scenes for thing in things]
        assert all(abs(drawn.count(value) * len(values) / len(drawn) - 1) < 0.2 for value in values), name
    counts = [len(things) for things in scenes]
    assert all(abs(counts.count(n) / 200 - 1) < 0.2 for n in (1, 2, 3))


def test_a_written_clip_has_its_frames_at_its_rate(tmp_path):
    clip = make_clip(9, size=96, fps=16, seconds=1)
    write_clip(tmp_path / "clip.mp4", clip)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 16)
        frames = list(container.decode(stream))
    assert [float(frame.time) for frame in frames] == pytest.approx(list(clip.times))
    read = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(float)
    assert np.abs(read - clip.frames).mean() < 6
