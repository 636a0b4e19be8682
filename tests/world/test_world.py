"""The world: the same scene at any moment and size, moving as it says, before a camera that moves."""

from dataclasses import replace

import numpy as np
import pytest

from ipcv.benchmark.reference_captions import caption
from ipcv.world.camera import Camera
from ipcv.world.random_scene import make_clip, make_scene
from ipcv.world.scene import COLOURS, FPS, HELD_OUT_SEEDS, MOTIONS, TRAINING_SEEDS, SceneEvent

CALM = Camera(pan=(0.0, 0.0), shake=0.0, frequencies=(1.0, 1.0), phases=(0.0, 0.0))


def first_scene(fits, seeds=range(2000)):
    return next(scene for scene in map(make_scene, seeds) if fits(scene))


def with_event(name):
    """A scene in which `name` happens to a thing, and that thing alone, in front of a camera that rests."""
    scene = first_scene(lambda s: any(t.happens(name) for t in s.things))
    thing = next(t for t in scene.things if t.happens(name))
    return replace(scene, things=(thing,), tags=(), pillar=None, camera=CALM, blots=()), thing


def pixel(scene, thing, time, size=224):
    frame = scene.render([time], size).frames[0]
    column, row = (int(c * size) for c in thing.path.at(time))
    return frame[row, column].astype(float)


def test_a_seed_fixes_every_pixel():
    assert np.array_equal(make_clip(7).frames, make_clip(7).frames)
    assert not np.array_equal(make_clip(7, size=112).frames[0], make_clip(8, size=112).frames[0])


def test_training_and_held_out_seeds_do_not_meet():
    assert TRAINING_SEEDS[0] < TRAINING_SEEDS[-1] < HELD_OUT_SEEDS[0] < HELD_OUT_SEEDS[-1]


def test_the_same_moment_looks_the_same_at_any_frame_rate():
    slow, fast = make_clip(3, size=84), make_clip(3, size=84, fps=16)
    assert fast.times[::8] == slow.times
    assert np.array_equal(fast.frames[::8], slow.frames)


def test_a_larger_frame_shows_the_same_scene():
    scene = replace(make_scene(5), camera=CALM)
    small, large = (scene.render([0.0, 1.0], size).frames.astype(float) for size in (112, 224))
    shrunk = large.reshape(2, 112, 2, 112, 2, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 3


def test_clips_have_the_length_and_size_of_their_scene():
    for seed in range(20):
        scene, clip = make_scene(seed), make_clip(seed)
        assert 4 <= len(clip.frames) == scene.seconds * FPS <= 16
        assert clip.frames.shape[1:] == (scene.size, scene.size, 3)
        assert scene.size in (112, 140, 168, 196, 224)


@pytest.mark.parametrize("motion", MOTIONS)
def test_objects_move_as_their_motion_says(motion):
    scene = first_scene(lambda s: any(t.motion == motion and t.event is None for t in s.things))
    thing = next(t for t in scene.things if t.motion == motion and t.event is None)
    way = np.subtract(thing.path.at(1.0), thing.path.at(0.0))
    assert np.allclose(way, np.array(MOTIONS[motion]) * thing.path.speed)


def test_the_camera_moves_everything_alike():
    scene = first_scene(
        lambda s: s.things[0].motion == "still" and s.camera.pan[0] > 0.02 and s.things[0].event is None
    )
    thing = replace(scene.things[0], radius=0.1)
    scene = replace(scene, things=(thing,), tags=(), pillar=None, blots=())
    for time in (0.0, 1.0, scene.seconds - 0.5):
        shift = scene.shift(time, 200)
        frame = scene.render([time], 200).frames[0].astype(float)
        column, row = (int((c + s) * 200) for c, s in zip(thing.path.at(time), shift, strict=True))
        if thing.shape != "ring":
            assert np.abs(frame[row, column] - thing.rgb).max() < 1
    background = replace(scene, things=())
    first, last = (background.render([time], 200).frames[0] for time in (0.0, 1.0))
    moved = [round(200 * s) for s in np.subtract(scene.shift(1.0, 200), scene.shift(0.0, 200))]
    assert moved != [0, 0]
    inner = slice(40, 160)
    assert np.array_equal(np.roll(first, moved[::-1], (0, 1))[inner, inner], last[inner, inner])


def test_a_still_camera_shows_a_background_that_only_its_noise_changes():
    for seed in range(4):
        scene = make_scene(seed, "still")
        assert scene.camera.kind == "still"
        assert 0 < scene.camera.noise <= 2
        empty = replace(scene, things=(), tags=(), pillar=None)
        first, last = empty.render([0.0, scene.seconds - 0.5], 112).frames.astype(float)
        assert np.std(first - last) == pytest.approx(2**0.5 * scene.camera.noise, abs=0.3)  # rounding
        again = empty.render([0.0], 112).frames[0]
        assert np.array_equal(again, first)


def test_a_moving_camera_moves_and_is_the_seeds_own_if_that_one_does():
    scenes = [(make_scene(seed), make_scene(seed, "moving")) for seed in range(24)]
    assert all(moving.camera.kind == "moving" for _, moving in scenes)
    own = [drawn.camera == moving.camera for drawn, moving in scenes if drawn.camera.kind == "moving"]
    assert all(own)
    assert 12 < len(own) < 24


def test_what_appears_is_not_there_before_and_what_disappears_not_after():
    for name, before, after in (("appears", False, True), ("disappears", True, False)):
        scene, thing = with_event(name)
        empty = replace(scene, things=())
        for time, there in ((thing.event.time - 0.01, before), (thing.event.time, after)):
            assert thing.is_there(time) is there
            assert np.array_equal(scene.render([time], 112).frames, empty.render([time], 112).frames) is not there


def test_what_changes_colour_has_another_one_afterwards():
    scene, thing = with_event("changes colour")
    solid = replace(thing, shape="square")
    scene = replace(scene, things=(solid,))
    assert np.abs(pixel(scene, solid, thing.event.time - 0.01) - thing.rgb).max() < 1
    assert np.abs(pixel(scene, solid, thing.event.time) - thing.event.rgb).max() < 1
    assert thing.event.colour != thing.colour


def test_what_bounces_comes_back_the_same_way():
    _, thing = with_event("bounces")
    turn = thing.path.bounce
    assert np.allclose(thing.path.at(turn - 0.7), thing.path.at(turn + 0.7))
    assert not np.allclose(thing.path.at(turn - 0.7), thing.path.at(turn))


def test_what_grows_is_larger_afterwards():
    scene, _ = with_event("grows")
    empty = replace(scene, things=())
    areas = [
        np.abs(scene.render([time], 224).frames.astype(float) - empty.render([time], 224).frames).sum(-1) > 20
        for time in (0.0, scene.seconds)
    ]
    assert areas[1].sum() == pytest.approx(1.8**2 * areas[0].sum(), rel=0.1)


def inside(scene, item, time):
    centre = np.add(item.path.at(time), scene.camera.at(time))
    return (centre > np.array(item.half()) - 0.01).all() and (centre < 1.01 - np.array(item.half())).all()


@pytest.mark.parametrize("seed", range(40))
def test_everything_stays_inside_the_frame_and_mostly_apart(seed):
    scene = make_scene(seed)
    assert 1 <= len(scene.things) <= 4
    colours = [thing.colour for thing in scene.things]
    colours += [thing.event.colour for thing in scene.things if thing.event and thing.event.colour]
    assert len(colours) == len(set(colours))
    moments = np.linspace(0, scene.seconds, 13)
    items = [*scene.things, *scene.tags]
    assert all(inside(scene, item, time) for item in items for time in moments)
    passing = [t for t in scene.things if t.event is None and t.motion != "still"]
    for index, one in enumerate(items):
        for other in items[:index]:
            meet = [
                (np.abs(np.subtract(one.path.at(time), other.path.at(time))) < np.add(one.half(), other.half())).all()
                for time in moments
            ]
            assert np.mean(meet) <= (0.25 if one in passing and other in passing else 0)


def test_every_part_of_the_world_comes_up_and_colours_and_motions_are_even():
    scenes = [make_scene(seed) for seed in range(600)]
    things = [thing for scene in scenes for thing in scene.things]
    for name, values in (("colour", COLOURS), ("shape", {t.shape for t in things}), ("motion", MOTIONS)):
        drawn = [getattr(thing, name) for thing in things]
        assert all(abs(drawn.count(value) * len(values) / len(drawn) - 1) < 0.3 for value in values), name
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    assert {len(scene.tags) for scene in scenes} == {0, 1, 2}
    assert {len(tag.code) for scene in scenes for tag in scene.tags} == {2, 3}
    events = {thing.event.name for thing in things if thing.event}
    assert events == {"appears", "disappears", "changes colour", "bounces", "grows"}
    assert any(scene.pillar for scene in scenes)
    assert not all(scene.camera.shake for scene in scenes)


def test_a_pillar_hides_what_passes_behind():
    scene = first_scene(lambda s: s.pillar is not None and not s.tags)
    scene = replace(scene, camera=CALM)
    x = scene.pillar.path.start[0]
    hidden = replace(scene.things[0], radius=0.02, event=None, path=replace(scene.pillar.path, start=(x, 0.5)))
    seen = replace(scene, things=(hidden,)).render([0.0], 224).frames
    assert np.array_equal(seen, replace(scene, things=()).render([0.0], 224).frames)


def test_a_code_is_drawn_in_its_letters():
    scene = first_scene(lambda s: len(s.tags) == 1)
    tag = replace(scene.tags[0], colour="white", code="LL", path=replace(scene.tags[0].path, start=(0.5, 0.5)))
    scene = replace(scene, tags=(tag,), things=(), pillar=None, camera=CALM)
    frame = scene.render([0.0], 1000).frames[0].mean(-1)
    ink = frame[437:563, 401:599].reshape(7, 18, 11, 18).mean((1, 3)) < 128
    letter = "1....", "1....", "1....", "1....", "1....", "1....", "11111"
    expected = np.array([[c == "1" for c in f"{row}.{row}"] for row in letter])
    assert np.array_equal(ink, expected)


def test_an_event_is_told_by_its_name():
    thing = replace(make_scene(0).things[0], event=SceneEvent(name="grows", time=1.0))
    assert thing.happens("grows")
    assert not thing.happens("appears")


def test_scenes_are_the_ones_that_the_bundled_model_was_trained_and_measured_on():
    assert [caption(make_scene(seed)) for seed in (0, 3, 11)] == [
        "A small green cross appears and moves left. A large orange circle stays still. "
        "A large yellow triangle appears and moves left.",
        "A small yellow triangle moves down and disappears. A black tag says AJ. A white tag says HPF.",
        "A blue ring moves right. A small purple triangle moves up and turns yellow. A small white circle moves left. "
        "A black tag says JN.",
    ]
    (thing,) = make_scene(3).things
    assert thing.path.start == pytest.approx((0.5922192, 0.4968278), abs=1e-6)
