"""Compression inside the vision encoder, against the plain model and against the method written naively."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import oracle
import pytest
import tiny
import torch
import torch.nn.functional as F
from probes import BombError, OperatorCount, attention, bomb, error, hooks
from torch import Tensor
from transformers import (
    AttentionInterface,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2VLForConditionalGeneration,
)

from ipcv import IPCV
from ipcv.errors import ModelError

Grids = list[tuple[int, int, int]]

ONE_VIDEO = [(3, 4, 6)]
MIXED = [(2, 4, 4), (1, 6, 4), (3, 2, 4)]  # videos and an image of different sizes in one pass
MANY_FRAMES = [(12, 2, 2), (1, 4, 4)]
WITHOUT_REUSE = {"stabilizer": "states", "reuse": 0.0}
PAPER = {"select": "change", "blend": "mean", "layer": 2, "stabilize": 2, "neighbors": 3}


def encode(model: Qwen2VLForConditionalGeneration, grids: Grids, seed: int = 0) -> Any:
    return model.model.visual(
        tiny.patches(grids, seed).to(model.device, model.dtype), grid_thw=torch.tensor(grids, device=model.device)
    )


def lengths(bounds: Tensor) -> list[int]:
    return bounds.diff().tolist()


def counts(kept: list[Tensor]) -> list[list[int]]:
    return [each.tolist() for each in kept]


# -------------------------------------------------------------------------------------------- the method itself


@pytest.mark.parametrize("grids", [ONE_VIDEO, MIXED], ids=["one video", "mixed"])
def test_the_oracle_is_the_plain_model_when_nothing_is_dropped(qwen2_vl, grids):
    want = oracle.Encoder(qwen2_vl, grids).plain(tiny.patches(grids))
    got = encode(qwen2_vl, grids)
    assert error(got.last_hidden_state, want.tokens) < 1e-5
    assert error(got.pooler_output, want.merged) < 1e-5


CASES = [
    pytest.param({"keep": 0.5, "layer": 2, "stabilize": 2, "neighbors": 3}, ONE_VIDEO, id="as in the paper"),
    pytest.param({"keep": 0.35, "layer": 2, "stabilize": 2, "neighbors": 3}, MIXED, id="mixed sizes in one pass"),
    pytest.param({"keep": 0.3, "layer": 1, "stabilize": 1, "neighbors": 5}, MIXED, id="first layer"),
    pytest.param({"keep": 0.4, "layer": 2, "stabilize": 0, "neighbors": 3}, MIXED, id="nothing stabilised"),
    pytest.param({"keep": 0.4, "layer": 2, "stabilize": 99, "neighbors": 3}, ONE_VIDEO, id="stabilised to the end"),
    pytest.param({"keep": 0.4, "layer": 3, "stabilize": 3, "neighbors": 3}, MIXED, id="stabilised just to the end"),
    pytest.param({"keep": 0.5, "layer": 5, "stabilize": 0, "neighbors": 1}, MIXED, id="last layer"),
    pytest.param({"keep": 0.5, "layer": 5, "stabilize": 4, "neighbors": 1}, MIXED, id="last layer, stabilised"),
    pytest.param({"keep": 0.05, "layer": 2, "stabilize": 1, "neighbors": 50}, ONE_VIDEO, id="few are kept"),
    pytest.param({"keep": 0.02, "layer": 2, "stabilize": 1, "neighbors": 2}, ONE_VIDEO, id="one token kept"),
    pytest.param({"keep": 0.1, "layer": 1, "stabilize": 1, "neighbors": 2}, MANY_FRAMES, id="frames without"),
    pytest.param({"keep": 0.99, "layer": 2, "stabilize": 1, "neighbors": 2}, ONE_VIDEO, id="nearly all kept"),
]


@pytest.mark.parametrize(("settings", "grids"), CASES)
@pytest.mark.parametrize(
    ("select", "blend"),
    [("change", "mean"), ("coverage", "distance"), ("uniform", "distance"), ("random", "mean"), ("coverage", "mean")],
)
def test_compression_equals_the_method_written_naively(qwen2_vl, settings, grids, select, blend):
    settings = settings | {"select": select, "blend": blend}
    want = oracle.Encoder(qwen2_vl, grids).compressed(tiny.patches(grids), **settings)
    with IPCV(**WITHOUT_REUSE, **settings)(qwen2_vl) as kept:
        got = encode(qwen2_vl, grids)
    assert counts(kept) == [want.lengths]
    assert error(got.last_hidden_state, want.tokens) < 1e-5
    assert error(got.pooler_output, want.merged) < 1e-5


@pytest.mark.parametrize("stabilize", [0, 1, 3, 99])
@pytest.mark.parametrize(("select", "blend"), [("change", "mean"), ("coverage", "distance"), ("uniform", "distance")])
def test_a_family_with_a_class_token_equals_the_method_written_naively(stabilize, select, blend):
    model, frames, rows, columns = tiny.dinov2(), 3, 4, 5
    pixels = torch.randn(frames, 3, rows * tiny.PATCH, columns * tiny.PATCH, generator=torch.Generator().manual_seed(1))
    settings = {"keep": 0.3, "layer": 2, "stabilize": stabilize, "neighbors": 3, "select": select, "blend": blend}
    entering = model.embeddings(pixels)
    want = oracle.Dinov2(model, frames, rows, columns).compressed(entering, **settings)
    with IPCV(**WITHOUT_REUSE, **settings)(model) as kept:
        got = model(pixels).last_hidden_state
    assert counts(kept) == [want.lengths]
    assert sum(want.lengths) == frames + int(0.3 * frames * rows * columns)
    assert error(got, model.layernorm(want.tokens.float()).view_as(got)) < 1e-5
    assert hooks(model) == 0


def test_stabilising_all_is_stabilising_to_the_last_block(qwen2_vl):
    with IPCV(keep=0.4, reuse=0, stabilize="all", stabilizer="states")(qwen2_vl):
        got = encode(qwen2_vl, MIXED)
    with IPCV(keep=0.4, stabilize=4)(qwen2_vl):
        assert torch.equal(encode(qwen2_vl, MIXED).pooler_output, got.pooler_output)


def test_a_frame_that_keeps_nothing_is_counted_as_that(qwen2_vl):
    with IPCV(keep=0.1, **(PAPER | {"layer": 1, "stabilize": 1}))(qwen2_vl) as kept:
        encode(qwen2_vl, MANY_FRAMES)
    assert len(kept[0]) == 13
    assert 0 in kept[0]


def test_a_still_clip_is_covered_by_fewer_frames_than_a_moving_one(qwen2_vl):
    """What repeats is kept once: frames after the first keep only what is spread evenly."""
    still = tiny.patches([(1, 8, 8)]).repeat(6, 1)
    with IPCV(keep=0.2, layer=1)(qwen2_vl) as kept:
        qwen2_vl.model.visual(still, grid_thw=torch.tensor([[6, 8, 8]]))
        qwen2_vl.model.visual(tiny.patches([(6, 8, 8)]), grid_thw=torch.tensor([[6, 8, 8]]))
    assert kept[0].max() - kept[0].min() > kept[1].max() - kept[1].min()


def test_a_quality_keeps_as_many_tokens_as_a_scene_needs(qwen2_vl):
    """A clip that stands still few, a busy one many, and more for a higher quality; each pass decides for itself."""
    size, grid = (1, 8, 8), torch.tensor([[6, 8, 8]])
    still, busy = tiny.patches([size]).repeat(6, 1), tiny.patches([(6, 8, 8)])
    sums = {}
    for quality in (0.01, 0.93, 0.999999):
        with IPCV(quality=quality, layer=1)(qwen2_vl) as kept:
            qwen2_vl.model.visual(still, grid_thw=grid)
            qwen2_vl.model.visual(busy, grid_thw=grid)
        sums[quality] = [int(each.sum()) for each in kept]
        assert len(kept.quality) == 2
        assert min(kept.quality) >= quality or quality == 0.999999
    still_share, busy_share = sums[0.93]
    assert still_share < busy_share
    assert sums[0.01][1] <= busy_share <= sums[0.999999][1] == int(0.7 * 384)


def test_a_quality_is_the_keep_that_it_chooses(qwen2_vl):
    with IPCV(quality=0.93, layer=1)(qwen2_vl) as kept:
        got = encode(qwen2_vl, [(3, 8, 8)]).pooler_output
    share = int(kept[0].sum()) / 192
    with IPCV(keep=share + 1e-6, layer=1)(qwen2_vl) as same:
        assert torch.equal(encode(qwen2_vl, [(3, 8, 8)]).pooler_output, got)
    assert torch.equal(same[0], kept[0])


def test_a_module_that_has_its_own_forward_already_gets_it_back(qwen2_vl):
    attention = qwen2_vl.model.visual.blocks[4].attn
    own = attention.forward = type(attention).forward.__get__(attention)
    try:
        with IPCV(keep=0.4)(qwen2_vl):
            assert attention.forward is not own
            encode(qwen2_vl, ONE_VIDEO)
        assert vars(attention)["forward"] is own
    finally:
        del attention.forward


@pytest.mark.parametrize("grids", [ONE_VIDEO, MIXED], ids=["one video", "mixed"])
def test_keeping_everything_is_the_plain_model_bit_for_bit(qwen2_vl, grids):
    plain = encode(qwen2_vl, grids)
    with IPCV(keep=1, reuse=0)(qwen2_vl):
        got = encode(qwen2_vl, grids)
    assert torch.equal(got.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(got.pooler_output, plain.pooler_output)


def test_a_smaller_share_moves_further_from_the_plain_model(qwen2_vl):
    plain = encode(qwen2_vl, MIXED).pooler_output
    errors = []
    for keep in (0.95, 0.7, 0.4, 0.1):
        with IPCV(keep=keep, **PAPER)(qwen2_vl):
            errors.append(error(encode(qwen2_vl, MIXED).pooler_output, plain))
    assert 0 < errors[0] < errors[1] < errors[2] < errors[3]


@pytest.mark.parametrize("stabilize", [0, 2])
def test_the_output_keeps_its_shape_and_type(qwen2_vl, stabilize):
    plain = encode(qwen2_vl, MIXED)
    with IPCV(keep=0.3, layer=2, stabilize=stabilize)(qwen2_vl):
        got = encode(qwen2_vl, MIXED)
    for name in ("last_hidden_state", "pooler_output"):
        assert got[name].shape == plain[name].shape
        assert got[name].dtype == plain[name].dtype
        assert got[name].isfinite().all()


def test_kept_tokens_never_see_another_frame(qwen2_vl):
    """A nudge to the second frame that leaves the choice as it is changes nothing in the kept tokens of the first."""
    settings = {"keep": 0.4, **PAPER, "stabilize": 0}
    pixels, size = tiny.patches(ONE_VIDEO), 4 * 6
    nudged = pixels.clone()
    nudged[size : 2 * size] += 0.01
    encoder = oracle.Encoder(qwen2_vl, ONE_VIDEO)
    keep = encoder.compressed(pixels, **settings).keep
    assert encoder.compressed(nudged, **settings).keep == keep
    with IPCV(**WITHOUT_REUSE, **settings)(qwen2_vl):
        first, second = (
            qwen2_vl.model.visual(p, grid_thw=torch.tensor(ONE_VIDEO)).last_hidden_state for p in (pixels, nudged)
        )
    for frame in range(3):
        kept = [token for token in keep if token // size == frame]
        assert kept
        assert torch.equal(first[kept], second[kept]) == (frame != 1)


# -------------------------------------------------------------------------- leaving the model as it was found


@pytest.mark.parametrize("failure", [None, BombError("CUDA out of memory")])
def test_leaving_the_context_restores_the_model(qwen2_vl, failure):
    plain = encode(qwen2_vl, MIXED)
    try:
        with IPCV(keep=0.4, **PAPER)(qwen2_vl):
            assert hooks(qwen2_vl) > 0
            encode(qwen2_vl, MIXED)
            if failure:
                raise failure
    except BombError:
        assert failure
    assert hooks(qwen2_vl) == 0
    assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, plain.last_hidden_state)


@pytest.mark.parametrize("place", ["blocks.2.attn", "blocks.3.mlp", "blocks.4", "blocks.5", "merger"])
def test_after_an_exception_inside_a_pass_the_next_pass_is_right(qwen2_vl, place):
    plain = encode(qwen2_vl, MIXED)
    with IPCV(keep=0.4, **PAPER)(qwen2_vl):
        want = encode(qwen2_vl, MIXED)
        with bomb(qwen2_vl.model.visual.get_submodule(place)):
            encode(qwen2_vl, ONE_VIDEO)
        assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, want.last_hidden_state)
    assert hooks(qwen2_vl) == 0
    assert torch.equal(encode(qwen2_vl, MIXED).last_hidden_state, plain.last_hidden_state)


def test_each_pass_chooses_anew(qwen2_vl):
    with IPCV(keep=0.4, **PAPER)(qwen2_vl):
        alone = [encode(qwen2_vl, grids, seed).pooler_output for grids, seed in ((ONE_VIDEO, 0), (MIXED, 1))]
    with IPCV(keep=0.4, **PAPER)(qwen2_vl) as kept:
        again = [encode(qwen2_vl, grids, seed).pooler_output for grids, seed in ((MIXED, 1), (ONE_VIDEO, 0))]
    assert torch.equal(again[1], alone[0])
    assert torch.equal(again[0], alone[1])
    assert [sum(each) for each in counts(kept)] == [int(80 * 0.4), int(72 * 0.4)]


def test_compressing_twice_is_refused_and_leaves_the_first_in_place(qwen2_vl):
    with IPCV(keep=0.4, **PAPER)(qwen2_vl):
        want = encode(qwen2_vl, MIXED)
        with pytest.raises(ValueError, match="already"), IPCV(keep=0.6, layer=4)(qwen2_vl):
            pass
        assert torch.equal(encode(qwen2_vl, MIXED).pooler_output, want.pooler_output)
    assert hooks(qwen2_vl) == 0


# ------------------------------------------------------------------------------------ numbers, kernels, devices


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_stays_near_float32(qwen2_vl, dtype, tolerance):
    half = copy.deepcopy(qwen2_vl).to(dtype)
    with IPCV(keep=0.5, **PAPER)(qwen2_vl) as kept, IPCV(keep=0.5, **PAPER)(half) as half_kept:
        want, got = encode(qwen2_vl, ONE_VIDEO).pooler_output, encode(half, ONE_VIDEO).pooler_output
    assert got.dtype == dtype
    assert counts(half_kept) == counts(kept)
    assert error(got, want) < tolerance


def test_eager_attention_equals_sdpa(qwen2_vl):
    with IPCV(keep=0.4, **PAPER)(qwen2_vl):
        want = encode(qwen2_vl, MIXED).pooler_output
        with attention(qwen2_vl, "eager"):
            got = encode(qwen2_vl, MIXED).pooler_output
    assert error(got, want) < 1e-5


@pytest.fixture
def varlen() -> Iterator[list[tuple[list[int], list[int]]]]:
    """A flash attention kernel in plain torch, as "flash_by_hand": the lengths of queries and keys of each call to it.

    Like the real one it takes packed sequences and their bounds in int32, and no longer segment than it is told.
    """
    calls: list[tuple[list[int], list[int]]] = []

    def forward(
        module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        both = []
        for rows, bounds, longest in (
            (query, kwargs["cu_seq_lens_q"], kwargs["max_length_q"]),
            (key, kwargs["cu_seq_lens_k"], kwargs["max_length_k"]),
        ):
            assert bounds.dtype == torch.int32
            assert bounds[0] == 0
            assert bounds[-1] == rows.shape[2]
            assert int(bounds.diff().max()) <= longest
            both.append(lengths(bounds))
        assert attention_mask is None
        assert not kwargs["is_causal"]
        calls.append((both[0], both[1]))
        rows = [
            F.scaled_dot_product_attention(q, k, v, scale=kwargs["scaling"])
            for q, k, v in zip(query.split(both[0], 2), key.split(both[1], 2), value.split(both[1], 2), strict=True)
        ]
        return torch.cat(rows, dim=2).transpose(1, 2), None

    AttentionInterface.register("flash_by_hand", forward)
    yield calls
    del AttentionInterface._global_mapping["flash_by_hand"]


@pytest.mark.parametrize("grids", [MIXED, MANY_FRAMES], ids=["mixed", "many frames"])
def test_flash_attention_is_given_the_bounds_of_the_tokens_that_it_gets(qwen2_vl, varlen, grids):
    settings = {"keep": 0.15, **PAPER}
    want = oracle.Encoder(qwen2_vl, grids).compressed(tiny.patches(grids), **settings)
    frames = [h * w for t, h, w in grids for _ in range(t)]
    with IPCV(**WITHOUT_REUSE, **settings)(qwen2_vl), attention(qwen2_vl, "flash_by_hand"):
        got = encode(qwen2_vl, grids)
    # two blocks ahead, two stabilised ones whose keys are everything, two that see only what is kept
    assert varlen == [(frames, frames)] * 2 + [(want.lengths, frames)] * 2 + [(want.lengths, want.lengths)] * 2
    assert error(got.last_hidden_state, want.tokens) < 1e-5


def test_the_number_of_operations_does_not_grow_with_the_tokens(qwen2_vl):
    counts = []
    for size in (4, 16):
        with IPCV(keep=0.4, **PAPER)(qwen2_vl), OperatorCount() as operators:
            encode(qwen2_vl, [(2, size, size)])
        counts.append(operators.count)
    assert counts[0] == counts[1]


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_the_gpu_gives_what_the_cpu_gives(qwen2_vl, dtype, tolerance):
    on_gpu = copy.deepcopy(qwen2_vl).to("cuda", dtype)
    with IPCV(keep=0.5, **PAPER)(qwen2_vl), IPCV(keep=0.5, **PAPER)(on_gpu):
        want, got = encode(qwen2_vl, ONE_VIDEO).pooler_output, encode(on_gpu, ONE_VIDEO).pooler_output
    assert got.device.type == "cuda"
    assert error(got, want) < tolerance


# ----------------------------------------------------------------------------------------- settings and errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": None}, "keep=None must be more than 0"),
        ({"keep": 0}, "keep=0 must be more than 0"),
        ({"keep": -0.5}, "keep=-0.5"),
        ({"keep": 1.5}, "keep=1.5 .* at most 1"),
        ({"keep": float("nan")}, "keep=nan"),
        ({"quality": 0}, "quality=0 must be more than 0 and less than 1"),
        ({"quality": 1.0}, "quality=1.0 must be"),
        ({"quality": 0.9, "select": "random"}, "quality needs select='coverage', not 'random'"),
        ({"layer": 0}, "layer=0 must be at least 1"),
        ({"layer": -1}, "layer=-1"),
        ({"stabilize": -1}, "stabilize=-1 must not be negative"),
        ({"neighbors": 0}, "neighbors=0 must be at least 1"),
        ({"stabilize": "some"}, "stabilize='some' must be a number of blocks, or 'all'"),
        ({"select": "attention"}, "select='attention' is not known; known: coverage, change, uniform, random"),
        ({"blend": "median"}, "blend='median' is not known; known: distance, mean"),
        ({"stabilizer": "queries"}, "stabilizer='queries' is not known; known: states, neighbors"),
        ({"reuse": -0.1}, "reuse=-0.1 must be at least 0 and less than 1"),
        ({"reuse": 1.0}, "reuse=1.0 must be at least 0 and less than 1"),
        ({"reuse": float("nan")}, "reuse=nan must be at least 0 and less than 1"),
        ({"reuse": 0.1, "stabilize": 3}, "reuse=0.1 needs stabilize='all', not 3.*use reuse=0 with it"),
        ({"cut": 0}, "cut=0 must be more than 0 and at most 1"),
        ({"refresh": 0}, "refresh=0 must be at least 1 slice"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        IPCV(**settings)


def test_settings_are_frozen_and_by_name_only():
    assert IPCV() == IPCV(
        keep=0.5,
        layer=2,
        stabilize="all",
        neighbors=4,
        select="coverage",
        blend="distance",
        stabilizer="neighbors",
        reuse=0.1,
        cut=0.2,
        refresh=8,
    )
    paper = IPCV(
        keep=0.35, layer=3, stabilize=7, neighbors=10, select="change", blend="mean", stabilizer="states", reuse=0.0
    )
    assert IPCV.paper() == paper
    assert IPCV.paper(keep=0.2, layer=4) == replace(paper, keep=0.2, layer=4)
    assert IPCV(stabilize=3).reuse == IPCV.paper(stabilize="all").reuse == 0
    with pytest.raises(AttributeError):
        IPCV().keep = 0.5
    with pytest.raises(TypeError):
        IPCV(0.5)


@pytest.mark.parametrize("keep", [0.5, 1])
def test_a_layer_past_the_last_block_is_refused(qwen2_vl, keep):
    with (
        pytest.raises(ValueError, match="layer=6 is past the encoder's last block: it has 6, from 0 to 5"),
        IPCV(keep=keep, layer=6)(qwen2_vl),
    ):
        pass
    assert hooks(qwen2_vl) == 0


def test_keeping_nothing_is_refused_and_the_next_pass_is_right(qwen2_vl):
    with IPCV(keep=0.05, **PAPER)(qwen2_vl):
        want = encode(qwen2_vl, MIXED).pooler_output
        with pytest.raises(ValueError, match=r"keep=0\.05 of 16 visual tokens keeps none"):
            encode(qwen2_vl, [(1, 4, 4)])
        assert torch.equal(encode(qwen2_vl, MIXED).pooler_output, want)


def test_an_unsupported_family_is_refused_by_name():
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    )
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPModel(CLIPConfig(text_config=tower | {"vocab_size": 8}, vision_config=tower))
    for model, family in ((llama, "llama"), (clip, "clip")):
        with pytest.raises(ModelError, match=f"'{family}' is not supported.*supported: .*qwen2_vl"), IPCV()(model):
            pass
