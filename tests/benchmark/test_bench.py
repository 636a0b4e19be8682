"""The benchmark: the same questions for every setting, counted right."""

from itertools import pairwise

import numpy as np
import pytest

from ipcv import TimedFrames
from ipcv.benchmark.benchmark import Report, bench
from ipcv.benchmark.questions import benchmark
from ipcv.benchmark.scoring import normalized, points
from ipcv.benchmark.settings import parse_settings
from ipcv.benchmark.wordings import KINDS
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip

COUNT = 22


@pytest.fixture(scope="module")
def report(demo):
    *counts, report = bench(demo, COUNT, parse_settings("dense,paper@0.5,frames@0.5,pixels@0.64,file,grey,other"))
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
    few = "22 questions say little, with fewer than 5 of a kind: use 110 or more"
    assert report.warnings == (*demo.warnings, few)


def test_changed_answers_and_differences_are_against_the_first_setting(report):
    dense, *others = report.scores
    assert (dense.same_answers, dense.changed, dense.difference, dense.difference_interval) == (1, (), 0, None)
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


def test_a_file_is_the_same_clip_written_and_read_back(demo, report, tmp_path):
    file = report.scores[4]
    results = []
    for seed, question in list(benchmark(COUNT)):
        write_clip(tmp_path / "clip.mp4", make_clip(seed, fps=16))
        results.append(points(question, demo.ask(tmp_path / "clip.mp4", question.text, file.settings.options).answer))
    assert file.accuracy == pytest.approx(sum(results) / COUNT)
    assert file.flops["encode"] == report.scores[0].flops["encode"]


def test_grey_and_other_clips_are_shown_as_such(demo, report):
    *_, grey, other = report.scores
    shown = {
        grey.name: lambda clip, _: np.full_like(clip.frames, 128),
        other.name: lambda _, following: following.frames,
    }
    for score in (grey, other):
        results = asked(demo, score.settings.options, shown[score.name])
        assert score.accuracy == pytest.approx(np.mean([points(q, answer.answer) for q, answer in results]))


def test_too_few_questions_are_refused(demo):
    with pytest.raises(ValueError, match="too few"):
        next(bench(demo, 10, parse_settings("dense")))
