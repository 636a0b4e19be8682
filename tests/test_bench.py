"""The benchmark: the same questions for every setting, counted right."""

import pytest

from ipcv import IPCV, Options, TimedFrames
from ipcv.bench import Report, bench, is_right, normalized
from ipcv.questions import KINDS, Question, benchmark
from ipcv.world import make_clip

DENSE = Options(compressor=None, pruner=None)


def video(seed):
    clip = make_clip(seed)
    return TimedFrames(clip.frames, clip.times)


def test_scores_are_those_of_asking_one_by_one(demo):
    *counts, report = bench(demo, 10, {"dense": DENSE, "half": Options(compressor=IPCV(keep=0.5), pruner=None)})
    assert counts == list(range(1, 11))
    assert isinstance(report, Report)
    asked = [
        (q, *(demo.ask(video(seed), q.text, score.settings) for score in report.scores)) for seed, q in benchmark(10)
    ]
    for index, score in enumerate(report.scores, start=1):
        right = [is_right(row[0], row[index].answer) for row in asked]
        assert score.accuracy == sum(right) / 10
        for kind in KINDS:
            of_kind = [hit for hit, row in zip(right, asked, strict=True) if row[0].kind == kind]
            assert score.by_kind[kind] == sum(of_kind) / len(of_kind)
        same = [normalized(row[index].answer) == normalized(row[1].answer) for row in asked]
        assert score.same_answers == sum(same) / 10
    dense, half = report.scores
    assert dense.same_answers == 1
    assert half.flops["encode"] < dense.flops["encode"]
    assert half.seconds["encode"] > 0
    assert report.warnings == demo.warnings


@pytest.mark.parametrize(
    ("kind", "truth", "answer", "right"),
    [
        ("colour", "red", "red", True),
        ("colour", "red", "The circle is Red.", True),
        ("colour", "red", "red or blue", False),
        ("colour", "red", "blue", False),
        ("colour", "red", "bored", False),
        ("direction", "it stays still", "It stays still.", True),
        ("direction", "left", "It stays still.", False),
        ("caption", "A red circle moves up.", "a red circle moves up", True),
        ("caption", "A red circle moves up.", "A red circle moves.", False),
    ],
)
def test_an_answer_is_right_if_it_names_the_truth_and_nothing_else(kind, truth, answer, right):
    assert is_right(Question(kind, "?", truth), answer) is right


def test_too_few_questions_are_refused(demo):
    with pytest.raises(ValueError, match="too few"):
        next(bench(demo, 4, {"dense": DENSE}))


@pytest.mark.parametrize(("answer", "plain"), [("Red.", "red"), (" red \n", "red"), ("Dark red", "dark red")])
def test_case_spaces_and_a_full_stop_do_not_count(answer, plain):
    assert normalized(answer) == plain
