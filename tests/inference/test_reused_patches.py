"""Patches that are reused over time: what an answer says of them, whatever the frame batch, also from the cache."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from ipcv import IPCV, Options, Reused, Sampling, TimedFrames, ToMe
from ipcv.answer import FrameBatch
from ipcv.compression.compressors.compressor import PassWork
from ipcv.encodings.cache import EncodingCache
from ipcv.families import find_language

COLOUR = "What colour is the circle?"
REUSING = Options(
    compressor=IPCV(keep=0.5, reuse=0.03, cut=0.5, refresh=64), sampling=Sampling(fps=8), max_new_tokens=8
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
    want = plain.reused_tokens.view(12, -1)
    if where == "behind them":  # the encoder had gone on: it begins anew
        assert not halved.reused_tokens.view(12, -1)[4].any()
    else:
        assert torch.equal(halved.reused_tokens.view(12, -1), want)
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


def seen(demo, clip, options):
    """An answer, and the positions and embeddings that the language model was given for it."""
    calls = []

    def look(_, __, kwargs):
        calls.append((kwargs["position_ids"][:, 0].T.tolist(), kwargs["inputs_embeds"][0].clone()))

    handle = demo.loaded.network.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        return demo.ask(clip, COLOUR, options), *calls[0]
    finally:
        handle.remove()


def test_reused_tokens_can_be_left_out_and_all_others_keep_their_places(demo, still):
    options = replace(REUSING, frame_batch=8)
    _, whole, embeddings = seen(demo, still, options)
    answer, places, given = seen(demo, still, replace(options, reducer=Reused()))
    reused = demo.encode(still, options).reused_tokens.tolist()
    before = next(at for at, place in enumerate(whole) if len(set(place)) > 1) - 1
    rows = [at for at in range(len(whole)) if not before <= at < before + len(reused) or not reused[at - before]]
    assert places == [whole[at] for at in rows]
    assert torch.equal(given, embeddings[rows])
    assert answer.frames.visual_tokens == reused.count(False) < len(reused) // 3
    prefill = answer.stages[3]
    assert prefill.tokens_in - prefill.tokens_computed == reused.count(True)
    assert prefill.flops < prefill.flops_dense / 2


def test_the_first_slice_stays_whatever_was_reused():
    tokens, reused = torch.randn(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    reused[2, 1] = False
    left = Reused()(tokens, reused)
    assert left.donor.tolist() == [0, 1, 2, 3, 9]
    assert torch.equal(left.tokens, tokens.flatten(0, 1)[left.donor])
    assert Reused()(tokens).donor.tolist() == list(range(12))


@pytest.mark.parametrize("compressor", [None, IPCV(keep=0.5, reuse=0.0), ToMe()])
def test_reused_tokens_cannot_be_left_out_where_none_are_reused(compressor):
    with pytest.raises(ValueError, match="Reused drops the tokens that the encoder reused, and this one reuses none"):
        Options(compressor=compressor, reducer=Reused())


def test_a_limit_counts_all_tokens_as_nobody_knows_how_many_will_be_reused(demo, still):
    limited = replace(REUSING, reducer=Reused(), max_visual_tokens=100)
    (video,) = demo.ask(still, COLOUR, limited).videos
    assert {each.what for each in video.budget.lowered} == {"frames"}
    assert video.frames.visual_tokens < video.budget.lowered[-1].visual_tokens <= 100
    with pytest.raises(ValueError, match="100 visual tokens are too few"):
        demo.ask(demo.encode(still, REUSING), COLOUR, limited)


def test_the_encoding_for_it_is_found_in_the_cache(demo, clip, tmp_path):
    cache, options = EncodingCache(tmp_path), replace(REUSING, reducer=Reused())
    (*_, first), (*_, second) = (demo.stream(clip, COLOUR, options, cache=cache) for _ in range(2))
    assert second.answer.videos == (replace(first.answer.videos[0], reused=True),)
    assert second.answer.answer == first.answer.answer
