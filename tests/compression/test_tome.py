"""Merging inside the vision encoder, against the plain model and against the method written naively."""

import copy
from typing import Any

import oracle
import oracle_rivals
import pytest
import tiny
import torch
from probes import BombError, OperatorCount, attention, bomb, error, hooks
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2VLForConditionalGeneration

from ipcv import IPCV, Dart, ToMe
from ipcv.compression.compressors.tensors.merging import MergeGroups, match
from ipcv.errors import ModelError

Grids = list[tuple[int, int, int]]

ONE_VIDEO = [(3, 4, 6)]
MIXED = [(2, 4, 4), (1, 6, 4), (3, 2, 4), (1, 4, 4)]  # videos and images of different sizes in one pass


def encode(model: Qwen2VLForConditionalGeneration, grids: Grids, seed: int = 0) -> Any:
    return model.model.visual(
        tiny.patches(grids, seed).to(model.device, model.dtype), grid_thw=torch.tensor(grids, device=model.device)
    )


def lengths(left: Tensor) -> list[int]:
    return left.tolist()


# -------------------------------------------------------------------------------------------- the method itself


@pytest.mark.parametrize("keep", [0.99, 0.7, 0.5, 0.25])
@pytest.mark.parametrize("grids", [ONE_VIDEO, MIXED], ids=["one video", "mixed"])
def test_merging_equals_the_method_written_naively(qwen2_vl, grids, keep):
    want = oracle_rivals.Encoder(qwen2_vl, grids).tome(tiny.patches(grids), keep)
    with ToMe(keep=keep)(qwen2_vl) as left:
        got = encode(qwen2_vl, grids)
    assert [lengths(b) for b in left] == [want.lengths]
    assert error(got.last_hidden_state, want.tokens) < 1e-5
    assert error(got.pooler_output, want.merged) < 1e-5


@pytest.mark.parametrize("grids", [ONE_VIDEO, MIXED], ids=["one video", "mixed"])
def test_keeping_everything_is_the_plain_model_bit_for_bit(qwen2_vl, grids):
    plain = encode(qwen2_vl, grids)
    with ToMe(keep=1)(qwen2_vl) as left:
        got = encode(qwen2_vl, grids)
    assert torch.equal(got.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(got.pooler_output, plain.pooler_output)
    assert left == []


def test_small_frames_merge_in_some_blocks_only(qwen2_vl):
    with ToMe(keep=0.8)(qwen2_vl) as left:
        encode(qwen2_vl, [(2, 2, 2)])
    assert lengths(left[0]) == [3, 3]


def test_before_the_first_merge_a_block_is_the_plain_one(qwen2_vl):
    """In the last block alone something merges: what goes in there is what the plain model puts in."""
    seen = []
    handle = qwen2_vl.model.visual.blocks[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        encode(qwen2_vl, [(2, 2, 4)])
        with ToMe(keep=0.99)(qwen2_vl):
            encode(qwen2_vl, [(2, 2, 4)])
    finally:
        handle.remove()
    assert seen[0].shape == seen[1].shape
    assert error(seen[1], seen[0]) < 1e-6


def test_equal_tokens_merge_first_and_count_as_often_as_they_were():
    """Three equal tokens among five: attention with their sizes on the logits sees what it saw before."""
    keys = torch.eye(4)[[0, 0, 1, 0, 2]][None]
    source, target = match(keys, 1)
    assert (source.tolist(), target.tolist()) == ([[0]], [[1]])
    frames = MergeGroups.of(1, 5, (torch.zeros(5, 2), torch.zeros(5, 2)))
    states = torch.arange(5.0)[None, :, None]
    merged, after = frames.merge(states, keys[:, :, None], 1)
    assert merged.flatten().tolist() == [0.5, 2, 3, 4]
    assert after.sizes.tolist() == [[2, 1, 1, 1]]
    assert after.part(merged).flatten().tolist() == [0.5, 0.5, 2, 3, 4]


def test_merging_equal_tokens_changes_nothing(qwen2_vl):
    """A frame of one colour has tokens that differ in place only; without places they are all the same."""
    grids = [(2, 4, 4)]
    pixels = tiny.patches([(1, 1, 2)]).repeat_interleave(16, 0)  # each frame one patch, over and over

    def run() -> Tensor:
        def still(_: Any, __: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return torch.ones_like(output[0]), torch.zeros_like(output[1])

        handle = qwen2_vl.model.visual.rotary_pos_emb.register_forward_hook(still)
        try:
            return qwen2_vl.model.visual(pixels, grid_thw=torch.tensor(grids)).last_hidden_state
        finally:
            handle.remove()

    plain = run()
    with ToMe(keep=0.25)(qwen2_vl):
        got = run()
    assert error(got, plain) < 1e-5


def test_a_smaller_share_moves_further_from_the_plain_model(qwen2_vl):
    plain = encode(qwen2_vl, MIXED).pooler_output
    errors = []
    for keep in (0.95, 0.7, 0.4):
        with ToMe(keep=keep)(qwen2_vl):
            errors.append(error(encode(qwen2_vl, MIXED).pooler_output, plain))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_the_output_keeps_its_shape_and_type(qwen2_vl):
    plain = encode(qwen2_vl, MIXED)
    with ToMe(keep=0.3)(qwen2_vl):
        got = encode(qwen2_vl, MIXED)
    for name in ("last_hidden_state", "pooler_output"):
        assert got[name].shape == plain[name].shape
        assert got[name].dtype == plain[name].dtype
        assert got[name].isfinite().all()


def test_frames_never_see_each_other(qwen2_vl):
    pixels, size = tiny.patches(ONE_VIDEO), 4 * 6
    other = pixels.clone()
    other[size : 2 * size] = torch.randn(size, pixels.shape[1])
    with ToMe(keep=0.4)(qwen2_vl):
        first, second = (
            qwen2_vl.model.visual(p, grid_thw=torch.tensor(ONE_VIDEO)).last_hidden_state.view(3, size, -1)
            for p in (pixels, other)
        )
    assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [True, False, True]


@pytest.mark.parametrize(("tokens", "depth", "keep"), [(1024, 32, 0.5), (1024, 32, 0.1), (7, 3, 0.6), (4, 12, 0.5)])
def test_merges_are_spread_evenly_and_leave_the_share(tokens, depth, keep):
    merges = ToMe(keep=keep).merges(tokens, depth)
    assert len(merges) == depth
    assert tokens - sum(merges) == int(tokens * keep)
    assert max(merges) - min(merges) <= 1


# -------------------------------------------------------------------------- leaving the model as it was found


@pytest.mark.parametrize("failure", [None, BombError("CUDA out of memory")])
def test_leaving_the_context_restores_the_model(qwen2_vl, failure):
    plain = encode(qwen2_vl, MIXED)
    try:
        with ToMe(keep=0.4)(qwen2_vl):
            assert hooks(qwen2_vl) > 0
            encode(qwen2_vl, MIXED)
            if failure:
                raise failure
    except BombError:
        assert failure
    assert hooks(qwen2_vl) == 0
    assert not any("forward" in vars(module) for module in qwen2_vl.modules())
    assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, plain.last_hidden_state)


@pytest.mark.parametrize("place", ["blocks.0.attn.qkv", "blocks.2.attn.proj", "blocks.3.mlp", "blocks.5", "merger"])
def test_after_an_exception_inside_a_pass_the_next_pass_is_right(qwen2_vl, place):
    plain = encode(qwen2_vl, MIXED)
    with ToMe(keep=0.4)(qwen2_vl):
        want = encode(qwen2_vl, MIXED)
        with bomb(qwen2_vl.model.visual.get_submodule(place)):
            encode(qwen2_vl, ONE_VIDEO)
        assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, want.last_hidden_state)
    assert hooks(qwen2_vl) == 0
    assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, plain.last_hidden_state)


def test_a_forward_that_a_library_had_put_there_comes_back(qwen2_vl):
    module = qwen2_vl.model.visual.blocks[1].attn

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return type(module).forward(module, *args, **kwargs)

    module.forward = theirs
    try:
        with ToMe(keep=0.5)(qwen2_vl):
            assert module.forward is not theirs
        assert module.forward is theirs
    finally:
        del module.forward


@pytest.mark.parametrize(("outer", "inner"), [(ToMe(), ToMe()), (IPCV(), ToMe()), (ToMe(), IPCV())])
def test_two_methods_in_one_encoder_are_refused(qwen2_vl, outer, inner):
    with outer(qwen2_vl), pytest.raises(ValueError, match="already"), inner(qwen2_vl):
        pass
    assert hooks(qwen2_vl) == 0
    assert not any("forward" in vars(module) for module in qwen2_vl.modules())


def test_it_goes_together_with_pruning_in_the_language_model(qwen2_vl):
    with ToMe(keep=0.5)(qwen2_vl), Dart(keep=0.5)(qwen2_vl):
        assert qwen2_vl(**tiny.prompt(4, ("video", 2, 8, 8), 5)).logits.isfinite().all()


# ----------------------------------------------------------------------------------- kernels, number types, speed


@pytest.mark.parametrize("kernel", ["eager", "flash_attention_2"])
def test_every_kernel_gives_the_same(qwen2_vl, kernel):
    """Flash attention takes no bias on the logits; torch's own attention, which is used instead, does."""
    with ToMe(keep=0.4)(qwen2_vl):
        want = encode(qwen2_vl, MIXED).last_hidden_state
        with attention(qwen2_vl.model.visual, kernel):
            got = encode(qwen2_vl, MIXED).last_hidden_state
    assert error(got, want) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_stays_near_float32(qwen2_vl, dtype, tolerance):
    half = copy.deepcopy(qwen2_vl).to(dtype)
    with ToMe(keep=0.5)(qwen2_vl), ToMe(keep=0.5)(half):
        want, got = encode(qwen2_vl, ONE_VIDEO).pooler_output, encode(half, ONE_VIDEO).pooler_output
    assert got.dtype == dtype
    similarity = torch.cosine_similarity(got.float(), want, dim=-1)
    assert similarity.median() > 1 - tolerance  # a near tie may merge another pair


def test_two_passes_give_the_same_bit_for_bit(qwen2_vl):
    with ToMe(keep=0.4)(qwen2_vl):
        first, second = (encode(qwen2_vl, MIXED).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)


def test_the_number_of_operations_does_not_grow_with_the_tokens_or_the_frames(qwen2_vl):
    counts = []
    for frames, size in ((2, 8), (6, 16)):
        with ToMe(keep=0.4)(qwen2_vl), OperatorCount() as operators:
            encode(qwen2_vl, [(frames, size, size)])
        counts.append(operators.count)
    assert counts[0] == counts[1]


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_the_gpu_gives_what_the_cpu_gives(qwen2_vl, dtype, tolerance):
    on_gpu = copy.deepcopy(qwen2_vl).to("cuda", dtype)
    with ToMe(keep=0.5)(qwen2_vl), ToMe(keep=0.5)(on_gpu):
        want, got = encode(qwen2_vl, ONE_VIDEO).pooler_output, encode(on_gpu, ONE_VIDEO).pooler_output
    assert got.device.type == "cuda"
    assert torch.cosine_similarity(got.float().cpu(), want, dim=-1).median() > 1 - tolerance


# ----------------------------------------------------------------------------------------- settings and errors


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
def test_a_share_that_makes_no_sense_is_refused_at_once(keep):
    with pytest.raises(ValueError, match=f"ToMe keep={keep} must be more than 0 and at most 1"):
        ToMe(keep=keep)


def test_settings_are_frozen_and_by_name_only():
    with pytest.raises(AttributeError):
        ToMe().keep = 0.4
    with pytest.raises(TypeError):
        ToMe(0.5)


def test_merging_more_than_half_in_one_block_is_refused_and_the_next_pass_is_right(qwen2_vl):
    with pytest.raises(
        ValueError, match=r"keep=0\.1 would merge more than half .* last of 6 blocks: keep at least 0\.14"
    ):
        ToMe(keep=0.1)(qwen2_vl).__enter__()
    with ToMe(keep=0.2)(qwen2_vl) as left:
        want = encode(qwen2_vl, ONE_VIDEO).pooler_output
        with pytest.raises(ValueError, match=r"keep=0\.2 of 4 patches in a frame would merge more than half"):
            encode(qwen2_vl, [(1, 4, 4), (1, 2, 2)])
        assert torch.equal(encode(qwen2_vl, ONE_VIDEO).pooler_output, want)
    assert [lengths(b) for b in left] == [[4, 4, 4]] * 2


def test_an_unsupported_family_is_refused_by_name():
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    )
    with pytest.raises(ModelError, match=r"'llama' is not supported.*supported: .*qwen2_vl"), ToMe()(llama):
        pass


def test_the_naive_encoder_is_the_plain_one_when_nothing_merges(qwen2_vl):
    want = oracle.Encoder(qwen2_vl, ONE_VIDEO).plain(tiny.patches(ONE_VIDEO)).tokens
    assert error(oracle_rivals.Encoder(qwen2_vl, ONE_VIDEO).tome(tiny.patches(ONE_VIDEO), 1).tokens, want) < 1e-10
