"""The plain model beside the compressed one: the same frames, runs in turn, and what may be said of their times."""

import time
from dataclasses import replace

import pytest
import torch

from ipcv import IPCV, Options, Sampling, TimedFrames
from ipcv.answer import Stage
from ipcv.inference import baseline as measuring
from ipcv.inference.baseline import ENOUGH, FEW, MOST, SECONDS, HeldClip, Pair, enough, seconds, speedup, verdict
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.retry import returned
from ipcv.media.clip import clip_from_frames

PLAIN = Options(compressor=None)
COLOUR = "What colour is the circle?"
OPTIONS = Options(compressor=IPCV(keep=0.35), baseline=True, repeats=3)


def pair(ours: float, dense: float) -> Pair:
    parts = ("encode", "prefill", "generate")
    return Pair(dict.fromkeys(parts, ours / 3), dict.fromkeys(parts, dense / 3))


@torch.no_grad()
def visual(model, frames, options):
    """The visual embeddings of frames in memory."""
    pipeline = Pipeline(model.loaded, options)
    clip = clip_from_frames(frames.frames, frames.times, resize=model.loaded.patches.resize)
    return returned(pipeline.encode(clip, pipeline.clock())).visual.tokens


def test_the_baseline_is_the_plain_model_on_the_same_frames(demo, frames):
    video = TimedFrames(frames.frames, frames.times)
    answer, plain = demo.ask(video, COLOUR, OPTIONS), demo.ask(video, COLOUR, PLAIN)
    found = answer.savings.baseline
    assert found.answer == plain.answer
    assert found.same_answer == (answer.answer == plain.answer)
    dense, compressed = (
        visual(demo, frames, options) for options in (PLAIN, replace(OPTIONS, baseline=False, repeats=None))
    )
    assert found.similarity == pytest.approx(torch.cosine_similarity(compressed, dense).mean().item(), abs=1e-5)
    assert 0 < found.similarity < 1
    flops = {stage.name: stage.flops_dense for stage in answer.stages}
    assert [stage.flops for stage in found.stages] == [flops["encode"], flops["prefill"], flops["generate"]]


def test_it_says_how_often_it_measured_and_how_far_the_pairs_lie_apart(demo, clip):
    found = demo.ask(clip, COLOUR, OPTIONS).savings.baseline
    assert found.pairs == 3
    for part, median in (
        (found.encode, found.encode_speedup),
        (found.prefill, found.prefill_speedup),
        (found.total, found.total_speedup),
    ):
        assert 0 < part.low <= part.median == median <= part.high
        assert part.seconds > 0 < part.seconds_dense
        assert part.verdict == verdict(3, part.low, part.high)


def test_both_take_turns_and_each_is_as_often_the_first(demo, clip, monkeypatch):
    asked = []
    answered = measuring.Pipeline.prefill

    def noted(self, *rest):
        asked.append(self.options.compressor is not None)
        return answered(self, *rest)

    monkeypatch.setattr(Pipeline, "prefill", noted)
    demo.ask(clip, COLOUR, replace(OPTIONS, repeats=2))
    assert asked == [True, False, *(False, True), *(True, False)]


def test_a_file_is_read_once_more_and_not_beside_what_is_timed(demo, clip, monkeypatch):
    passes = []
    monkeypatch.setattr(HeldClip, "__iter__", lambda self: passes.append(1) or iter(self._batches))
    options = replace(OPTIONS, sampling=Sampling(fps=1))
    assert demo.ask(clip, COLOUR, options).savings.baseline.pairs == 3
    assert len(passes) == 1 + 2 * 3


def test_more_frames_than_fit_are_read_again(demo, clip, monkeypatch):
    monkeypatch.setattr(measuring, "HELD", 1000)
    monkeypatch.setattr(HeldClip, "__init__", None)
    assert demo.ask(clip, COLOUR, replace(OPTIONS, repeats=1)).savings.baseline.pairs == 1


def test_the_speed_up_compares_equally_long_answers():
    def stage(name, spent, tokens):
        return Stage(name=name, seconds=spent, tokens_in=tokens, tokens_computed=tokens)

    stages = (stage("read", 9.0, 8), stage("encode", 3.0, 8), stage("prefill", 2.0, 8), stage("generate", 20.0, 100))
    assert seconds(stages, 10) == {"encode": 3.0, "prefill": 2.0, "generate": 2.0}


@pytest.mark.parametrize(
    ("ratios", "median", "low", "high", "said"),
    [
        ((0.32, 4.23), 0.32, 0.32, 4.23, "too few pairs to call"),
        ((1.8, 1.9, 2.2), 1.9, 1.8, 2.2, "faster"),
        ((0.5, 0.6, 0.4), 0.5, 0.4, 0.6, "slower"),
        ((0.92, 0.82, 0.97), 0.92, 0.82, 0.97, "too close to call"),
        ((0.92, 0.82, 0.97, 0.9, 0.91), 0.91, 0.82, 0.97, "slower"),
        ((0.53, 0.9, 3.15), 0.9, 0.53, 3.15, "too close to call"),
        ((1.01, 1.02, 1.03, 1.04, 1.05), 1.03, 1.01, 1.05, "too close to call"),
        ((0.1, *[1.5] * 6, 9.0), 1.5, 1.5, 1.5, "faster"),  # of eight pairs, the outermost are left out
    ],
    ids=str,
)
def test_only_what_all_pairs_say_is_called_faster(ratios, median, low, high, said):
    found = speedup([pair(1.0, ratio) for ratio in ratios], "encode", "prefill", "generate")
    assert (found.median, found.low, found.high) == pytest.approx((median, low, high))
    assert found.verdict == said
    assert found.seconds_dense / found.seconds == pytest.approx(found.median)


def test_pairs_end_when_the_ranges_are_narrow_or_time_is_up():
    now = time.monotonic()
    narrow, wide = [pair(1.0, 2.0)] * MOST, [pair(1.0, 1.0), pair(1.0, 2.0), pair(2.0, 1.0)] * MOST
    assert not enough(narrow[: ENOUGH - 1], None, now)
    assert enough(narrow[:ENOUGH], None, now)
    assert not enough(wide[: MOST - 1], None, now)
    assert enough(wide[:MOST], None, now)
    assert enough(wide[:1], None, now - SECONDS - 1)
    assert not enough([], None, now - SECONDS - 1)
    assert not enough(narrow[:ENOUGH], MOST + 5, now - SECONDS - 1)
    assert enough(narrow[:FEW], FEW, now)


def test_a_quality_says_what_was_kept_expected_and_missed(demo, clip):
    answer = demo.ask(clip, COLOUR, replace(OPTIONS, compressor=IPCV(quality=0.95), repeats=1))
    quality, (video,) = answer.quality, answer.videos
    assert answer.settings.compressor.keep is None
    assert quality.kept == video.patches_computed / video.patches
    assert 0.95 <= quality.expected < 1
    assert quality.measured == answer.savings.baseline.similarity < 0.95
    assert quality.missed_by == pytest.approx(0.95 - quality.measured)
    assert any("not calibrated for this model" in warning for warning in answer.warnings)
    assert f"quality=0.95 was missed by {quality.missed_by:.3f}: {quality.measured:.3f} was measured" in answer.warnings


def test_a_quality_beyond_what_is_tried_is_a_warning(demo, clip):
    answer = demo.ask(clip, COLOUR, Options(compressor=IPCV(quality=0.99999)))
    assert answer.quality.kept == pytest.approx(0.7, abs=0.01)
    assert (answer.quality.measured, answer.quality.missed_by) == (None, None)
    assert any(warning.startswith("quality=0.99999 is more than can be expected") for warning in answer.warnings)


def test_without_a_quality_nothing_is_said_of_one(demo, clip):
    answer = demo.ask(clip, COLOUR)
    assert answer.quality is None
    assert not any("quality" in warning for warning in answer.warnings)
