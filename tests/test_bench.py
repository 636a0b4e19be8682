"""The benchmark: the same questions for every setting, counted right."""

from itertools import pairwise

import numpy as np
import pytest

from ipcv import TimedFrames
from ipcv.bench import (
    Report,
    accuracy_interval,
    bench,
    constant_baseline,
    difference_interval,
    normalized,
    points,
)
from ipcv.questions import KINDS, Question, benchmark
from ipcv.scenes import make_clip
from ipcv.settings import parse_settings

COLOURS = ("red", "blue")
COUNT = 22


@pytest.fixture(scope="module")
def report(demo):
    *counts, report = bench(demo, COUNT, parse_settings("dense,paper@0.5,frames@0.5,pixels@0.64,grey,other"))
    assert counts == list(range(1, COUNT + 1))
    assert isinstance(report, Report)
    return report


def asked(demo, options, change=lambda clip, _: clip.frames):
    """The benchmark's questions, asked one by one."""
    drawn = list(benchmark(COUNT + 1))
    for (seed, question), (other, _) in pairwise(drawn):
        clip = make_clip(seed)
        frames = change(clip, make_clip(other))
        times = [i / 2 for i in range(len(frames))]
        yield question, demo.ask(TimedFrames(frames, times), question.text, options)


def test_scores_are_those_of_asking_one_by_one(demo, report):
    for score in report.scores[:2]:
        results = [
            (question, points(question, answer.answer)) for question, answer in asked(demo, score.settings.options)
        ]
        assert score.accuracy == pytest.approx(sum(right for _, right in results) / COUNT)
        for kind in KINDS:
            of_kind = [right for question, right in results if question.kind == kind]
            assert score.by_kind[kind] == pytest.approx(sum(of_kind) / len(of_kind))
    assert report.by_kind == dict.fromkeys(KINDS, 2)
    assert report.warnings == demo.warnings


def test_changed_answers_and_differences_are_against_the_first_setting(report):
    dense, *others = report.scores
    assert (dense.same_answers, dense.changed, dense.difference) == (1, (), 0)
    for score in others:
        assert score.same_answers == pytest.approx(1 - len(score.changed) / COUNT)
        assert score.difference == pytest.approx(score.accuracy - dense.accuracy)
        assert score.difference == pytest.approx(sum(each.points for each in score.changed) / COUNT)
        assert all(normalized(each.answer) != normalized(each.first) for each in score.changed)
        assert score.difference_interval.low < score.difference < score.difference_interval.high


def test_less_to_see_costs_less(report):
    dense, paper, frames, pixels, *_ = (score.flops["encode"] for score in report.scores)
    assert paper < dense
    assert 0.4 < frames / dense < 0.65
    assert 0.5 < pixels / dense < 0.75
    assert all(score.seconds["encode"] > 0 for score in report.scores)


def test_grey_and_other_clips_are_shown_as_such(demo, report):
    *_, grey, other = report.scores
    shown = {
        grey.name: lambda clip, _: np.full_like(clip.frames, 128),
        other.name: lambda _, following: following.frames,
    }
    for score in (grey, other):
        results = asked(demo, score.settings.options, shown[score.name])
        assert score.accuracy == pytest.approx(np.mean([points(q, answer.answer) for q, answer in results]))


@pytest.mark.parametrize(
    ("kind", "options", "truth", "answer", "score"),
    [
        ("colour", COLOURS, "red", "red", 1),
        ("colour", COLOURS, "red", "The circle is Red.", 1),
        ("colour", COLOURS, "red", "red or blue", 0),
        ("colour", COLOURS, "red", "blue", 0),
        ("colour", COLOURS, "red", "bored", 0),
        ("direction", ("left", "it stays still"), "it stays still", "It stays still.", 1),
        ("direction", ("left", "it stays still"), "left", "It stays still.", 0),
        ("event", ("it appears", "it disappears"), "it appears", "it disappears", 0),
        ("event", ("red ring", "blue ring"), "red ring", "the red ring", 1),
        ("reading", (), "K7", "k7.", 1),
        ("reading", (), "K7", "K77", 0),
        ("caption", (), "A red circle moves up.", "a red circle moves up", 1),
        ("caption", (), "A red circle moves up.", "A red circle moves down.", 0.5),
    ],
)
def test_an_answer_scores_if_it_names_the_truth_and_nothing_else(kind, options, truth, answer, score):
    assert points(Question(kind, "?", truth, options), answer) == score


def test_the_constant_baseline_is_the_best_answer_or_place_in_hindsight():
    words = ("left", "right")
    pairs = [("a", "b"), ("c", "d"), ("e", "f")]
    questions = [
        *(Question("position", "?", truth, words) for truth in ("left", "left", "right")),
        *(Question("order", "?", pair[1], pair) for pair in pairs),
        Question("reading", "?", "A2"),
        Question("reading", "?", "A3"),
    ]
    assert constant_baseline(questions) == {"position": 2 / 3, "order": 1, "reading": 0.5}


def test_constant_answers_are_weak_on_the_benchmark():
    baseline = constant_baseline([question for _, question in benchmark(330)])
    limits = {"colour": 0.13, "shape": 0.2, "size": 0.34, "count": 0.27, "direction": 0.2, "position": 0.5}
    limits |= {"order": 0.5, "event": 0.3, "existence": 0.5, "reading": 0.07, "caption": 0.3}
    assert all(baseline[kind] <= limit + 0.04 for kind, limit in limits.items()), baseline


def test_intervals_are_the_textbook_ones():
    wilson = accuracy_interval(0.9, 100)
    assert (wilson.low, wilson.high) == pytest.approx((0.82563, 0.94477), abs=1e-5)
    assert accuracy_interval(1.0, 50).low == pytest.approx(0.92865, abs=1e-5)
    gained = [1] * 12 + [-1] * 30 + [0] * 158  # 12 won, 30 lost, of 200
    centre = -18 / 202
    half = 1.959964 * ((43 - 18**2 / 202) ** 0.5) / 202
    interval = difference_interval(gained)
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))


def test_no_change_is_not_certainty():
    interval = difference_interval([0.0] * 100)
    assert interval.low < 0 < interval.high


def test_too_few_questions_are_refused(demo):
    with pytest.raises(ValueError, match="too few"):
        next(bench(demo, 10, parse_settings("dense")))


@pytest.mark.parametrize(("answer", "plain"), [("Red.", "red"), (" red \n", "red"), ("Dark red", "dark red")])
def test_case_spaces_and_a_full_stop_do_not_count(answer, plain):
    assert normalized(answer) == plain
