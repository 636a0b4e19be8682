"""The benchmark: the same questions for every setting, counted right."""

from itertools import pairwise

import numpy as np
import pytest

from ipcv import TimedFrames
from ipcv.benchmark.benchmark import bench
from ipcv.benchmark.cases import benchmark
from ipcv.benchmark.report import Report
from ipcv.benchmark.scoring import normalized, points
from ipcv.benchmark.settings import parse_settings
from ipcv.benchmark.wordings import KINDS
from ipcv.world.mp4 import write_clip

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
    for case, other in pairwise(drawn):
        frames = change(case.clip(), other.clip())
        times = [i / 2 for i in range(len(frames))]
        yield case, demo.ask(TimedFrames(frames, times), case.question.text, options)


def test_scores_are_those_of_asking_one_by_one(demo, report):
    for score in report.scores[:2]:
        results = [(case, points(case.question, answer.answer)) for case, answer in asked(demo, score.settings.options)]
        assert score.accuracy == pytest.approx(sum(right for _, right in results) / COUNT)
        for kind in KINDS:
            of_kind = [right for case, right in results if case.question.kind == kind]
            assert score.by_kind[kind] == pytest.approx(sum(of_kind) / len(of_kind))
        for camera, half in score.by_camera.items():
            of_camera = [right for case, right in results if case.camera == camera]
            assert half.accuracy == pytest.approx(sum(of_camera) / len(of_camera))
    assert report.by_kind == dict.fromkeys(KINDS, 2)
    assert report.by_camera == {"still": 11, "moving": 11}
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


def test_all_questions_are_those_of_both_cameras(report):
    for score in report.scores:
        still, moving = score.by_camera["still"], score.by_camera["moving"]
        for name in ("accuracy", "difference", "same_answers"):
            assert getattr(score, name) == pytest.approx((getattr(still, name) + getattr(moving, name)) / 2)
        for stage in ("encode", "prefill"):
            assert score.flops[stage] == pytest.approx((still.flops[stage] + moving.flops[stage]) / 2)
            assert score.seconds[stage] == pytest.approx((still.seconds[stage] + moving.seconds[stage]) / 2)


def test_the_visual_tokens_are_those_in_the_prompt(demo):
    *_, report = bench(demo, len(KINDS), parse_settings("dense,evs@0.5"))
    dense, evs = report.scores
    for camera, half in dense.by_camera.items():
        assert evs.by_camera[camera].visual_tokens == pytest.approx(half.visual_tokens / 2, rel=0.02)


def test_less_to_see_costs_less(report):
    dense, paper, frames, pixels, *_ = (score.flops["encode"] for score in report.scores)
    assert paper < dense
    assert 0.4 < frames / dense < 0.65
    assert 0.5 < pixels / dense < 0.75
    assert all(score.seconds["encode"] > 0 for score in report.scores)


def test_a_file_is_the_same_clip_written_and_read_back(demo, report, tmp_path):
    file = report.scores[4]
    results = []
    for case in benchmark(COUNT):
        write_clip(tmp_path / "clip.mp4", case.clip(fps=16))
        answer = demo.ask(tmp_path / "clip.mp4", case.question.text, file.settings.options).answer
        results.append(points(case.question, answer))
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
        assert score.accuracy == pytest.approx(
            np.mean([points(case.question, answer.answer) for case, answer in results])
        )


def test_too_few_questions_are_refused(demo):
    with pytest.raises(ValueError, match="too few"):
        next(bench(demo, 10, parse_settings("dense")))
