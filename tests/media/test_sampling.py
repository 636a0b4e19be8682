"""The choice of frames, from timestamps alone."""

import pytest
from films import THIRTY_PER_SECOND, UNEVEN
from hypothesis import given
from hypothesis import strategies as st

from ipcv.errors import VideoError
from ipcv.media.sampling import Sampling, choose, parse_time

ROUNDED = tuple(round(time, 3) for time in THIRTY_PER_SECOND)  # as Matroska keeps them


def chosen_times(times, sampling, **more):
    return [round(times[position], 3) for position in choose(times, sampling, **more).positions]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("0:01:30.5", 90.5), (".5", 0.5), ("90:00", 5400), (" 7 ", 7), ("1:00:00", 3600)],
)
def test_times_are_read_as_people_write_them(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1:75", "1:60:00", "1::2", "nan", "inf", "1e3", "1:2:3:4", "a", "1,5", "٣", "9" * 400]
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"is not a time.*1:30"):
        parse_time(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps must be"),
        ({"fps": -1}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"max_frames": 1}, "max_frames must be at least 2"),
        ({"start": -1}, "start must be"),
        ({"end": float("inf")}, "end must be"),
        ({"start": 5, "end": 5}, r"end \(5 s\) must come after start \(5 s\)"),
        ({"end": 0}, "must come after start"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize("times", [THIRTY_PER_SECOND, ROUNDED], ids=["exact", "rounded"])
def test_frames_are_taken_at_even_steps_of_source_time(times):
    assert choose(times, Sampling()).positions == (0, 15, 30, 45, 60, 75)
    assert choose(times, Sampling(fps=30, max_frames=90)).positions == tuple(range(90))


def test_an_uneven_frame_rate_is_sampled_by_time_and_not_by_count():
    assert chosen_times(UNEVEN, Sampling(fps=1, end=5)) == [0.0, 0.9, 1.8, 3.0, 3.9, 4.8]


def test_the_cap_spreads_the_frames_over_the_whole_clip_and_says_so():
    choice = choose(THIRTY_PER_SECOND, Sampling(fps=30, max_frames=8))
    assert choice.positions == (0, 12, 25, 38, 50, 63, 76, 89)
    assert choice.warnings == ("capped: 8 of 90 frames, 0.42 s apart",)


def test_the_cap_spreads_the_frames_over_the_window_only():
    choice = choose(THIRTY_PER_SECOND, Sampling(fps=30, max_frames=4, start=1, end=2))
    assert choice.positions == (30, 39, 49, 59)


def test_an_odd_cap_is_rounded_down():
    assert len(choose(THIRTY_PER_SECOND, Sampling(fps=30, max_frames=7)).positions) == 6


def test_fewer_than_the_cap_can_be_asked_for_down_to_one_frame():
    choice = choose(THIRTY_PER_SECOND, Sampling(start=1), multiple=1, most=1)
    assert choice.positions == (30,)
    assert choice.warnings == ("capped: 1 of 4 frames",)


def test_a_window_starts_with_its_first_frame_and_excludes_its_end():
    assert chosen_times(THIRTY_PER_SECOND, Sampling(start=1, end=2)) == [1.0, 1.5]


def test_a_window_between_two_frames_shows_the_one_on_display():
    choice = choose((0.0, 10.0, 20.0), Sampling(start=12, end=15))
    assert choice.positions == (1, 1)
    assert choice.warnings == ("the last frame is repeated once: frames are encoded 2 at a time",)


def test_a_frame_that_stays_is_taken_once():
    assert choose((0.0, 10.0, 20.0, 30.0), Sampling(), duration=40).positions == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("count", "positions"),
    [(1, (0, 0)), (2, (0, 1)), (3, (0, 1, 2, 2)), (4, (0, 1, 2, 3))],
)
def test_a_short_clip_gives_every_frame_and_fills_the_last_pair(count, positions):
    choice = choose(tuple(range(count)), Sampling())
    assert choice.positions == positions
    assert bool(choice.warnings) == (count % 2 == 1)


def test_an_odd_count_takes_one_more_real_frame_where_there_is_one():
    assert choose([index / 30 for index in range(61)], Sampling()).positions == (0, 15, 30, 45, 52, 60)
    assert choose([index / 30 for index in range(75)], Sampling()).positions == (0, 15, 30, 45, 60, 74)


def test_an_end_after_the_video_is_the_video_s_end_and_says_so():
    choice = choose(THIRTY_PER_SECOND, Sampling(start=2, end=99), duration=3.0)
    assert choice.positions == (60, 75)
    assert choice.warnings == ("the clip ends with the video at 3.000 s, before the end asked for (99 s)",)


def test_the_exact_end_of_the_video_is_no_reason_to_warn():
    assert not choose(THIRTY_PER_SECOND, Sampling(end=3.0), duration=3.0).warnings


def test_a_start_after_the_video_is_an_error():
    with pytest.raises(VideoError, match=r"would start at 3 s, but the video ends at 3\.000 s: start earlier"):
        choose(THIRTY_PER_SECOND, Sampling(start=3), duration=3.0)


def test_an_absurd_frame_rate_costs_nothing():
    assert len(choose(THIRTY_PER_SECOND, Sampling(fps=1e12, max_frames=1000)).positions) == 90


@given(
    gaps=st.lists(st.floats(0.005, 30), max_size=60),
    fps=st.floats(0.01, 100),
    max_frames=st.integers(2, 40),
    multiple=st.sampled_from([1, 2]),
    start=st.floats(0, 20),
    length=st.floats(0.01, 100) | st.none(),
)
def test_every_choice_is_ascending_even_capped_and_inside_the_window(gaps, fps, max_frames, multiple, start, length):
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    duration = max(times[-1], start) + 1
    end = None if length is None else start + length
    sampling = Sampling(fps=fps, max_frames=max_frames, start=start, end=end)
    positions = choose(times, sampling, duration=duration, multiple=multiple).positions
    assert list(positions) == sorted(positions)
    assert len(positions) % multiple == 0
    assert 1 <= len(positions) <= max_frames
    assert len(positions) - len(set(positions)) < multiple
    on_display = max(position for position, time in enumerate(times) if time <= start + 1e-3)
    assert positions[0] >= on_display
    assert all(end is None or times[position] < end or position == on_display for position in positions)
