"""What answers score, the best constant answer, and intervals."""

import pytest

from ipcv.benchmark.cases import benchmark
from ipcv.benchmark.questions import Question
from ipcv.benchmark.scoring import accuracy_interval, constant_baseline, difference_interval, normalized, points

COLOURS = ("red", "blue")


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
        ("event", ("it changes colour", "nothing"), "it changes colour", "It changes color.", 1),
        ("reading", (), "K7", "k7.", 1),
        ("reading", (), "K7", "The tag says K7.", 1),
        ("reading", (), "K7", "K7 or K8", 0),
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
    baseline = constant_baseline([case.question for case in benchmark(330)])
    limits = {"colour": 0.13, "shape": 0.2, "size": 0.34, "count": 0.34, "direction": 0.2, "position": 0.5}
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


def test_no_interval_leaves_what_is_possible():
    assert difference_interval([1.0] * 11).high == 1
    assert difference_interval([-1.0] * 11).low == -1


def test_no_change_is_not_certainty():
    interval = difference_interval([0.0] * 100)
    assert interval.low < 0 < interval.high


@pytest.mark.parametrize(("answer", "plain"), [("Red.", "red"), (" red \n", "red"), ("Dark red", "dark red")])
def test_case_spaces_and_a_full_stop_do_not_count(answer, plain):
    assert normalized(answer) == plain
