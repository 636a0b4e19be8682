"""Patches that are reused over time: what an answer says of them, whatever the frame batch, also from the cache."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from ipcv import IPCV, Options, Sampling, TimedFrames
from ipcv.answer import FrameBatch
from ipcv.compression.compressors.compressor import PassWork
from ipcv.encodings.cache import EncodingCache
from ipcv.families import find_language

COLOUR = "What colour is the circle?"
REUSING = Options(
    compressor=IPCV(keep=0.5, reuse=0.03, stabilizer="neighbors"), sampling=Sampling(fps=8), max_new_tokens=8
)


@pytest.fixture(scope="module")
def still(frames):
    """A camera that stands still, and in its picture a square that moves."""
    pictures = np.repeat(frames.frames[:1], 24, axis=0)
    for at, picture in enumerate(pictures):
        picture[8:24, 4 * at : 4 * at + 16] = 255
    return TimedFrames(pictures, [at / 8 for at in range(24)])


@pytest.fixture(scope="module")
def answer(demo, still):
    return demo.ask(still, COLOUR, replace(REUSING, frame_batch=8))


@contextmanager
def out_of_memory_once(module):
    """The second call of `module` runs out of memory."""
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def test_the_frame_batch_does_not_change_what_is_reused(demo, still, answer):
    one_by_one, at_once = (demo.encode(still, replace(REUSING, frame_batch=size)) for size in (2, 24))
    assert torch.equal(one_by_one.reused_tokens, at_once.reused_tokens)
    assert sum(map(sum, one_by_one.computed)) == sum(map(sum, at_once.computed))
    (video,) = answer.videos
    assert video.patches_reused == video.patches - sum(map(sum, at_once.computed))
    assert 0 < video.patches_computed < video.patches - video.patches_reused < video.patches // 3


def test_all_batches_together_reuse_as_much_as_the_stage_and_the_video(demo, still, answer):
    events = list(demo.stream(still, COLOUR, replace(REUSING, frame_batch=8)))
    batches = [event for event in events if isinstance(event, FrameBatch)]
    encode = answer.stages[2]
    assert [batch.tokens_reused > 0 for batch in batches] == [True] * 3
    assert sum(batch.tokens_reused for batch in batches) == encode.tokens_reused == answer.videos[0].patches_reused
    assert sum(batch.tokens_computed for batch in batches) == encode.tokens_computed
    assert [stage.tokens_reused for stage in answer.stages if stage.name != "encode"] == [0] * 4


def test_flops_are_those_of_what_was_computed_and_kept(demo, still, answer):
    encoded = demo.encode(still, replace(REUSING, frame_batch=8))
    shape = find_language("qwen2_vl").vision(demo.loaded.network.config)
    work = zip(encoded.passes, encoded.computed, encoded.kept, strict=True)
    flops = [
        REUSING.compressor.flops(shape, PassWork(frames=frames, computed=computed, kept=kept))
        for frames, computed, kept in work
    ]
    assert answer.stages[2].flops == sum(flops)
    assert answer.savings.encode_flops < 0.35


@pytest.mark.parametrize("where", ["inside the blocks", "behind them"])
def test_a_pass_that_failed_leaves_nothing_behind(where, demo, still):
    visual = demo.loaded.network.model.visual
    with out_of_memory_once(visual.blocks[-1] if where == "inside the blocks" else visual.merger):
        halved = demo.encode(still, replace(REUSING, frame_batch=8))
    assert [len(each) for each in halved.passes] == [4, 2, 2, 2, 2]
    assert [warning for warning in halved.warnings if "8 frames at a time: encoded 4 at a time" in warning]
    plain = demo.encode(still, replace(REUSING, frame_batch=8))
    assert torch.equal(halved.reused_tokens, plain.reused_tokens)
    assert sum(map(sum, halved.computed)) == sum(map(sum, plain.computed))


def test_a_cache_remembers_what_was_reused(demo, clip, tmp_path):
    cache = EncodingCache(tmp_path)
    (*_, first), (*_, second) = (demo.stream(clip, COLOUR, REUSING, cache=cache) for _ in range(2))
    assert first.answer.videos[0].patches_reused > 0
    assert second.answer.videos == (replace(first.answer.videos[0], reused=True),)
    assert second.answer.stages[2].tokens_reused == 0
    assert second.answer.stages[2].flops_dense == first.answer.stages[2].flops_dense


def test_nothing_of_an_image_or_without_reuse_is_reused(demo, still):
    image = TimedFrames(still.frames[:1], [0.0])
    for found in (demo.encode(still, Options(compressor=IPCV(reuse=0.0))), demo.encode(image, REUSING)):
        assert found.reused_tokens.shape == (len(found.visual),)
        assert not found.reused_tokens.any()
