"""Pruning inside the language model, against the plain model and against the methods written naively."""

import copy
import gc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import oracle
import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import OperatorCount, attention, bomb, error, hooks
from pruned_runs import IMAGE, LAYERS, LONG, MIXED, VIDEO, lengths, oracle_run, run
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    StaticCache,
)
from transformers.masking_utils import flash_attention_mask

from ipcv import IPCV, Dart, FastV, V2Drop
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.compression.pruners.pruner import Pruned, Pruner
from ipcv.errors import ModelError

PRUNERS = [Dart(keep=0.5, layer=2), FastV(keep=0.5, layer=2), V2Drop(keep=(0.6, 0.5), layers=(2, 4))]
LATER = [Dart(keep=0.5), FastV(keep=0.5), V2Drop(keep=(0.5,), layers=(3,))]
NAMES = ["dart", "fastv", "v2drop"]


def rows_kept(pruned: DynamicCache, plain: DynamicCache, layer: int) -> list[int]:
    """Which rows of the plain model's keys the pruned cache holds: the same keys, so at the same positions."""
    same = (pruned.layers[layer].keys[0, :, :, None] - plain.layers[layer].keys[0, :, None]).abs().amax((0, -1)) < 1e-4
    assert same.sum(1).tolist() == [1] * len(same)
    return same.int().argmax(1).tolist()


# ------------------------------------------------------------------------------------------- the methods themselves


@pytest.mark.parametrize("parts", [MIXED, (7,)], ids=["mixed", "text"])
def test_the_oracle_is_the_plain_model_when_nothing_is_dropped(qwen2_vl, parts):
    want, language = oracle_run(qwen2_vl, parts, None, 3)
    got, cache = run(qwen2_vl, parts, 3)
    assert all(error(g, w) < 1e-5 for g, w in zip(got, want, strict=True))
    assert lengths(cache) == [len(seen) for seen in language.cache]


@pytest.mark.parametrize(
    ("pruner", "parts"),
    [
        pytest.param(Dart(keep=0.5, layer=3), MIXED, id="dart"),
        pytest.param(Dart(keep=0.8, layer=1), MIXED, id="dart, first layer"),
        pytest.param(Dart(keep=0.4, layer=LAYERS - 1), (2, VIDEO, 9), id="dart, last layer"),
        pytest.param(Dart(keep=0.1, layer=2), (2, LONG, 5), id="dart, pivots alone"),
        pytest.param(Dart(keep=0.6, layer=2), (3, VIDEO, 1), id="dart, one word behind the video"),
        pytest.param(Dart(keep=0.5, layer=2), (3, IMAGE, VIDEO), id="dart, nothing behind the video"),
        pytest.param(Dart(keep=0.5, layer=2), (3, ("image", 1, 2, 4), 6), id="dart, fewer tokens than pivots"),
        pytest.param(Dart(keep=0.95, layer=2), (3, VIDEO, 6), id="dart, more than are left"),
        pytest.param(FastV(keep=0.5, layer=2), MIXED, id="fastv"),
        pytest.param(FastV(keep=0.3, layer=1), MIXED, id="fastv, first layer"),
        pytest.param(FastV(keep=0.7, layer=LAYERS - 1), (2, LONG, 9), id="fastv, last layer"),
        pytest.param(FastV(keep=0.5, layer=3), (VIDEO, IMAGE, 1), id="fastv, video first"),
        pytest.param(FastV(keep=0.01, layer=3), (2, VIDEO, 1), id="fastv, one token"),
        pytest.param(V2Drop(), MIXED, id="v2drop as published"),
        pytest.param(V2Drop(keep=(0.7, 0.6, 0.5), layers=(1, 2, 4)), MIXED, id="v2drop, one layer after the other"),
        pytest.param(V2Drop(keep=(0.5,), layers=(1,)), (2, LONG, 9), id="v2drop, once"),
        pytest.param(V2Drop(keep=(1, 0.5), layers=(2, 3)), (VIDEO, IMAGE, 1), id="v2drop, nothing at first"),
    ],
)
def test_pruning_equals_the_method_written_naively_in_prompt_and_decoding(qwen2_vl, pruner, parts):
    want, language = oracle_run(qwen2_vl, parts, pruner, 4)
    _, plain = run(qwen2_vl, parts)
    with pruner(qwen2_vl):
        _, prompt_cache = run(qwen2_vl, parts)
        got, cache = run(qwen2_vl, parts, 4)
    first = pruner.steps(LAYERS)[0]
    assert rows_kept(prompt_cache, plain, first) == language.kept(first)[:-4]
    assert lengths(prompt_cache) == [len(seen) - 4 for seen in language.cache]
    assert lengths(cache) == [len(seen) for seen in language.cache]
    assert [error(g, w) < 1e-5 for g, w in zip(got, want, strict=True)] == [True] * 5


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_it_equals_the_naive_method_on_a_compressed_encoder(qwen2_vl, pruner):
    with IPCV(keep=0.5, layer=2, stabilize=2)(qwen2_vl):
        want, _ = oracle_run(qwen2_vl, MIXED, pruner, 3)
        with pruner(qwen2_vl):
            got, _ = run(qwen2_vl, MIXED, 3)
    assert all(error(g, w) < 1e-5 for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("pruner", [Dart, FastV])
@pytest.mark.parametrize("layer", [1, 3])
def test_the_cache_is_short_from_the_pruning_layer_on(qwen2_vl, pruner, layer):
    settings = pruner(keep=0.5, layer=layer)
    visual, text = 32 + 12 + 24, 4 + 3 + 2 + 6
    with settings(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED, 2)
    short = text + settings.count(visual)
    assert short < text + visual
    assert lengths(cache) == [text + visual + 2] * layer + [short + 2] * (LAYERS - layer)


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_every_video_and_image_is_covered_and_text_is_never_dropped(qwen2_vl, pruner):
    types = tiny.prompt(*MIXED)["mm_token_type_ids"][0]
    _, plain = run(qwen2_vl, MIXED)
    with pruner(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED)
    kept = torch.zeros(len(types), dtype=torch.bool)
    kept[rows_kept(cache, plain, 2)] = True
    assert kept[types == 0].all()
    ends = torch.cumsum(torch.tensor([4, 32, 3, 12, 2, 24, 6]), 0).tolist()
    for start, end in ((ends[0], ends[1]), (ends[2], ends[3]), (ends[4], ends[5])):
        assert 0 < kept[start:end].sum() < end - start


def test_fastv_takes_the_tokens_of_the_largest_mean_in_the_whole_attention_matrix(qwen2_vl):
    visual = (tiny.prompt(*MIXED)["mm_token_type_ids"][0] != 0).nonzero()[:, 0]
    eager = copy.deepcopy(qwen2_vl)
    eager.set_attn_implementation("eager")
    attentions = eager(**tiny.prompt(*MIXED), position_ids=torch.tensor(oracle.places(*MIXED)).T[:, None],
                       output_attentions=True).attentions  # fmt: skip
    matrix = attentions[1][0].mean(0)
    best = visual[matrix[-1, visual].topk(int(len(visual) * 0.4)).indices].sort().values.tolist()
    _, plain = run(qwen2_vl, MIXED)
    with FastV(keep=0.4, layer=2)(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED)
    assert [row for row in rows_kept(cache, plain, 2) if row in visual] == best


def test_v2drop_takes_the_tokens_that_the_layer_changed_most(qwen2_vl):
    visual = (tiny.prompt(*MIXED)["mm_token_type_ids"][0] != 0).nonzero()[:, 0]
    watched = copy.deepcopy(qwen2_vl)  # transformers leaves hooks of its own behind
    states = watched(**tiny.prompt(*MIXED), position_ids=torch.tensor(oracle.places(*MIXED)).T[:, None],
                     output_hidden_states=True).hidden_states  # fmt: skip
    change = (states[2] - states[1])[0, visual].norm(dim=-1)
    best = visual[change.topk(int(len(visual) * 0.4)).indices].sort().values.tolist()
    _, plain = run(qwen2_vl, MIXED)
    with V2Drop(keep=(0.4,), layers=(2,))(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED)
    assert [row for row in rows_kept(cache, plain, 2) if row in visual] == best


@pytest.mark.parametrize(("depth", "layers"), [(28, (3, 16, 22)), (4, (1, 2, 3)), (5, (1, 3, 4)), (36, (4, 21, 28))])
def test_v2drops_layers_are_scaled_to_the_models_depth(depth, layers):
    assert V2Drop().steps(depth) == layers


def test_v2drop_holds_fewer_tokens_step_by_step(qwen2_vl):
    visual, text = 32 + 12 + 24, 4 + 3 + 2 + 6
    with V2Drop()(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED, 2)
    assert V2Drop().counts(visual) == (17, 1, 1)
    assert lengths(cache) == [text + count + 2 for count in (visual, 17, 17, 1, 1)]


@given(visual=st.integers(1, 60), text=st.integers(0, 9), keep=st.floats(0.01, 0.99), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None, derandomize=True)
@pytest.mark.parametrize("pruner", [Dart, FastV])
def test_the_announced_number_of_tokens_stays_for_any_prompt(pruner, visual, text, keep, seed):
    random = torch.Generator().manual_seed(seed)
    prompt = PromptState(
        visual=torch.arange(2, 2 + visual),
        text=torch.arange(2 + visual, 2 + visual + text),
        before=torch.randn(2 + visual + text, 16, generator=random),
        states=torch.randn(2 + visual + text, 16, generator=random),
        keys=torch.randn(2, 2 + visual + text, 8, generator=random),
        query=torch.randn(4, 8, generator=random),
    )
    settings = pruner(keep=keep)
    stays = settings.choose(prompt)
    assert stays.dtype == torch.bool
    assert len(stays) == visual
    if pruner is FastV or text >= 4:
        assert stays.sum() == settings.count(visual)
    else:  # fewer words than pivots: what they would have taken is left out
        assert 1 <= stays.sum() <= settings.count(visual)


@dataclass(frozen=True, kw_only=True)
class Merging(Pruner):
    """Merge all visual tokens into the first one of every four, at layer 2."""

    prunes = True

    def steps(self, *_: Any) -> tuple[int, ...]:
        return (2,)

    def counts(self, visual: int) -> tuple[int, ...]:
        return (visual // 4,)

    def choose(self, prompt: PromptState) -> Tensor:
        return torch.arange(len(prompt.visual)) % 4 == 0

    def prune(self, prompt: PromptState) -> Pruned:
        return Pruned(self.choose(prompt), prompt.states[prompt.visual].unflatten(0, (-1, 4)).mean(1))

    def flops(self, *_: Any) -> int:
        return 0


def test_a_pruner_may_merge_tokens_into_those_that_stay(qwen2_vl):
    seen: dict[str, Tensor] = {}
    layers = qwen2_vl.get_decoder().layers
    visual = (tiny.prompt(*MIXED)["mm_token_type_ids"][0] != 0).nonzero()[:, 0]
    with ExitStack() as hooks, Merging()(qwen2_vl):
        after = layers[1].register_forward_hook(lambda _, __, output: seen.update(before=output[0].clone()))
        norm = layers[2].input_layernorm.register_forward_pre_hook(
            lambda _, args: seen.update(after=args[0][0].clone())
        )
        hooks.callback(after.remove)
        hooks.callback(norm.remove)
        _, cache = run(qwen2_vl, MIXED)
    merged = seen["before"].clone()
    merged[visual[::4]] = seen["before"][visual].unflatten(0, (-1, 4)).mean(1)
    stays = torch.ones(len(merged), dtype=torch.bool)
    stays[visual] = torch.arange(len(visual)) % 4 == 0
    assert torch.equal(seen["after"], merged[stays])
    assert lengths(cache)[1:3] == [len(merged), int(stays.sum())]


# ------------------------------------------------------------------------------------------- what must not change


@pytest.mark.parametrize("pruner", [Dart(keep=1), FastV(keep=1), V2Drop(keep=(1, 1, 1))], ids=NAMES)
def test_keeping_everything_is_the_plain_model_bit_for_bit(qwen2_vl, pruner):
    plain, _ = run(qwen2_vl, MIXED, 2)
    with pruner(qwen2_vl):
        got, cache = run(qwen2_vl, MIXED, 2)
    assert all(torch.equal(g, p) for g, p in zip(got, plain, strict=True))
    assert len(set(lengths(cache))) == 1


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_a_prompt_of_text_alone_passes_through_bit_for_bit(qwen2_vl, pruner):
    plain, _ = run(qwen2_vl, (9,), 3)
    with pruner(qwen2_vl):
        got, cache = run(qwen2_vl, (9,), 3)
    assert all(torch.equal(g, p) for g, p in zip(got, plain, strict=True))
    assert lengths(cache) == [12] * LAYERS


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
@pytest.mark.parametrize(
    "place",
    [
        "visual.blocks.4",
        "language_model.layers.1.mlp",
        "language_model.layers.2.self_attn",
        "language_model.layers.4",
        "language_model.norm",
    ],
)
def test_after_an_exception_inside_a_pass_the_next_pass_is_right(qwen2_vl, pruner, place):
    plain, _ = run(qwen2_vl, MIXED, 1)
    with IPCV(keep=0.5, layer=2, stabilize=1)(qwen2_vl), pruner(qwen2_vl):
        want, _ = run(qwen2_vl, MIXED, 1)
        with bomb(qwen2_vl.model.get_submodule(place)):
            run(qwen2_vl, (2, LONG, 3), 1)
        got, _ = run(qwen2_vl, MIXED, 1)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    assert hooks(qwen2_vl) == 0
    got, _ = run(qwen2_vl, MIXED, 1)
    assert all(torch.equal(g, p) for g, p in zip(got, plain, strict=True))


@pytest.mark.parametrize("pruner", LATER, ids=NAMES)
def test_leaving_by_an_exception_removes_every_hook(qwen2_vl, pruner):
    with bomb(qwen2_vl.lm_head), pruner(qwen2_vl):
        assert hooks(qwen2_vl) > 1
        run(qwen2_vl, MIXED)
    assert hooks(qwen2_vl) == 0


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_two_prompts_can_be_decoded_in_turns(qwen2_vl, pruner):
    """Which tokens stay belongs to a prompt's cache, not to the model."""
    prompts = [MIXED, (2, LONG, 9)]
    with pruner(qwen2_vl):
        want = [run(qwen2_vl, parts, 1)[0][1] for parts in prompts]
        first = [run(qwen2_vl, parts) for parts in prompts]
        for parts, (logits, cache), expected in zip(prompts, first, want, strict=True):
            place = torch.tensor(oracle.places(*parts, 1)[-1]).view(3, 1, 1)
            token = logits[0].argmax().view(1, 1)
            got = qwen2_vl(input_ids=token, position_ids=place, past_key_values=cache).logits[0, -1]
            assert torch.equal(got, expected)


def test_no_prompt_is_held_after_its_cache_is_gone(qwen2_vl):
    with Dart(keep=0.5, layer=2)(qwen2_vl):
        layer = qwen2_vl.model.language_model.layers[2]
        prune, *_ = [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, partial)]
        kept = prune.func.__self__.prompts.kept
        _, cache = run(qwen2_vl, MIXED)
        assert len(kept) == 1
        del cache
        gc.collect()
        assert len(kept) == 0


# --------------------------------------------------------------------------------- generate, kernels, number types


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
@pytest.mark.parametrize("given_positions", [False, True])
def test_generate_gives_what_a_loop_over_the_model_gives(qwen2_vl, pruner, given_positions):
    parts = MIXED if given_positions else (4, VIDEO, 3, IMAGE, 6)  # without LONG transformers' own positions are right
    positions = {"position_ids": torch.tensor(oracle.places(*parts)).T[:, None]} if given_positions else {}
    with IPCV(keep=0.5, layer=2, stabilize=2)(qwen2_vl), pruner(qwen2_vl):
        want, cache = run(qwen2_vl, parts, 11)
        got = qwen2_vl.generate(
            **tiny.prompt(*parts), **positions, max_new_tokens=12, do_sample=False, return_dict_in_generate=True
        )
    ids = tiny.prompt(*parts)["input_ids"]
    assert got.sequences[0, ids.shape[1] :].tolist() == [int(logits.argmax()) for logits in want]
    assert lengths(got.past_key_values) == lengths(cache)


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_eager_attention_with_its_mask_equals_sdpa(qwen2_vl, pruner):
    masks: list[Any] = []
    watched = qwen2_vl.model.language_model.layers[3].self_attn
    with pruner(qwen2_vl):
        want, want_cache = run(qwen2_vl, MIXED, 3)
        with attention(qwen2_vl, "eager"):
            handle = watched.register_forward_pre_hook(
                lambda _, __, kwargs: masks.append(kwargs["attention_mask"].shape), with_kwargs=True
            )
            got, cache = run(qwen2_vl, MIXED, 3)
            handle.remove()
    short = 15 + pruner.counts(68)[0]
    assert masks == [(1, 1, short, short)] + [(1, 1, 1, short + step) for step in (1, 2, 3)]
    assert lengths(cache) == lengths(want_cache)
    assert all(error(g, w) < 1e-5 for g, w in zip(got, want, strict=True))


@pytest.fixture
def flash() -> Iterator[list[int]]:
    """Flash attention in plain torch, as "flash_by_hand", dispatching as the real one does; the calls' key lengths.

    A mask `[batch, length]` names the tokens that are not padding; positions that jump mean packed sequences.
    """
    calls: list[int] = []

    def forward(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        if "cu_seq_lens_q" in kwargs:  # the vision encoder
            asking, asked = (kwargs[f"cu_seq_lens_{side}"].diff().tolist() for side in "qk")
            parts = zip(query.split(asking, 2), key.split(asked, 2), value.split(asked, 2), strict=True)
            return torch.cat([F.scaled_dot_product_attention(*part) for part in parts], dim=2).transpose(1, 2), None
        calls.append(key.shape[2])
        if position_ids is not None:
            assert position_ids.shape[-1] == query.shape[2]
            assert attention_mask is not None or not (position_ids.diff() != 1).any(), "taken for packed sequences"
        queries, keys = query.shape[2], key.shape[2]
        allowed = torch.ones(queries, keys).tril(keys - queries).bool()
        if attention_mask is not None:
            assert attention_mask.shape == (1, keys)
            allowed = allowed & attention_mask.bool()
            allowed[~allowed.any(1)] = True  # padding itself
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, enable_gqa=True)
        return out.transpose(1, 2), None

    AttentionInterface.register("flash_by_hand", forward)
    AttentionMaskInterface.register("flash_by_hand", flash_attention_mask)
    yield calls
    del AttentionInterface._global_mapping["flash_by_hand"]
    del AttentionMaskInterface._global_mapping["flash_by_hand"]


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
@pytest.mark.parametrize("generated", [False, True])
def test_flash_attention_equals_sdpa(qwen2_vl, flash, pruner, generated):
    """`generate` also passes the plain positions of the text, which jump where tokens were dropped."""
    parts = (4, VIDEO, 3, IMAGE, 6)

    def answer() -> list[int]:
        if generated:
            return qwen2_vl.generate(**tiny.prompt(*parts), max_new_tokens=6, do_sample=False)[0, -6:].tolist()
        return [int(logits.argmax()) for logits in run(qwen2_vl, parts, 5)[0]]

    with IPCV(keep=0.5, layer=2, stabilize=1)(qwen2_vl), pruner(qwen2_vl):
        want = answer()
        with attention(qwen2_vl, "flash_by_hand"):
            got = answer()
    short = [13 + count for count in pruner.counts(44)]
    assert flash[:LAYERS] == [13 + 44] * 2 + [short[0]] * 2 + [short[-1]]
    assert got == want


@pytest.mark.parametrize("kernel", ["sdpa", "eager", "flash_by_hand"])
def test_padding_before_a_prompt_does_not_matter(qwen2_vl, flash, kernel):
    pruner, padding, parts = Dart(keep=0.5, layer=2), 3, (4, VIDEO, 3, IMAGE, 6)
    inputs = tiny.prompt(*parts)
    padded = inputs | {
        name: F.pad(inputs[name], (padding, 0)) for name in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    with pruner(qwen2_vl), attention(qwen2_vl, kernel):
        want, got = (
            qwen2_vl.generate(
                **prompt, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
            )
            for prompt in (inputs, padded)
        )
    assert all(error(g, w) < 1e-5 for g, w in zip(got.logits, want.logits, strict=True))


def test_a_masked_word_stays_masked_behind_dropped_tokens(qwen2_vl, flash):
    """Flash attention takes the mask as one row, eager attention and sdpa take it as a matrix."""
    parts = (4, VIDEO, 7)
    mask = torch.ones(1, 43, dtype=torch.long)
    mask[0, 38] = 0
    with FastV(keep=0.5, layer=1)(qwen2_vl):
        unmasked, _ = run(qwen2_vl, parts)
        logits = []
        for kernel in ("sdpa", "eager", "flash_by_hand"):
            with attention(qwen2_vl, kernel):
                logits.append(run(qwen2_vl, parts, attention_mask=mask)[0][0])
    assert error(logits[0], unmasked[0]) > 0.01
    assert error(logits[1], logits[0]) < 1e-5
    assert error(logits[2], logits[0]) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_half_precision_stays_near_float32(qwen2_vl, pruner, dtype, tolerance):
    half = copy.deepcopy(qwen2_vl).to(dtype)
    with pruner(qwen2_vl), pruner(half):
        want, cache = run(qwen2_vl, (2, VIDEO, 9), 1)
        got, half_cache = run(half, (2, VIDEO, 9), 1)
    assert got[0].dtype == dtype
    assert lengths(half_cache) == lengths(cache)
    assert error(got[0], want[0]) < tolerance


@pytest.mark.parametrize("pruner", PRUNERS, ids=NAMES)
def test_the_number_of_operations_does_not_grow_with_the_tokens(qwen2_vl, pruner):
    counts = []
    for size in (8, 24):
        parts = (4, ("video", 2, size, size), 6)
        with pruner(qwen2_vl), OperatorCount() as operators:
            run(qwen2_vl, parts)
        counts.append(operators.count)
    assert counts[0] == counts[1]


# ------------------------------------------------------------------------------------------- settings and errors


@pytest.mark.parametrize("pruner", [Dart, FastV])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0}, "keep=0 must be more than 0"),
        ({"keep": 1.01}, "keep=1.01 .* at most 1"),
        ({"keep": float("nan")}, "keep=nan"),
        ({"layer": 0}, "layer=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(pruner, settings, message):
    with pytest.raises(ValueError, match=message):
        pruner(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": ()}, r"V2Drop keep=\(\) must be shares from 0 to 1"),
        ({"keep": (0.5, 0.5, 1.1)}, "must be shares from 0 to 1"),
        ({"keep": (0.5, 0.5, float("nan"))}, "must be shares from 0 to 1"),
        ({"keep": (0.5, 0.5)}, r"keep=\(0\.5, 0\.5\) must have a share for each of its 3 layers"),
        ({"layers": (1, 2)}, "must have a share for each of its 2 layers"),
        ({"layers": (0, 1, 2)}, r"layers=\(0, 1, 2\) must ascend from 1"),
        ({"layers": (2, 2, 3)}, r"layers=\(2, 2, 3\) must ascend from 1"),
    ],
)
def test_v2drop_settings_that_make_no_sense_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        V2Drop(**settings)


def test_v2drop_is_refused_where_the_model_is_not_deep_enough(qwen2_vl):
    with pytest.raises(ValueError, match=r"layers=\(1, 3, 5\) go past .* last layer \(4"):
        V2Drop(layers=(1, 3, 5))(qwen2_vl).__enter__()
    with pytest.raises(ValueError, match="do not fit into 2 layers"):
        V2Drop().steps(2)
    assert hooks(qwen2_vl) == 0


@pytest.mark.parametrize("pruner", [Dart, FastV])
@pytest.mark.parametrize("keep", [0.5, 1])
def test_a_layer_past_the_last_one_is_refused(qwen2_vl, pruner, keep):
    with pytest.raises(ValueError, match=r"layer=5 is past .* last layer \(4"), pruner(keep=keep, layer=5)(qwen2_vl):
        pass
    assert hooks(qwen2_vl) == 0


@pytest.mark.parametrize("pruner", [Dart, FastV, V2Drop])
def test_an_unsupported_family_is_refused_by_name(pruner):
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=4, num_attention_heads=1, vocab_size=8)
    )
    with pytest.raises(ModelError, match=r"'llama' is not supported.*supported: .*qwen2_vl"), pruner()(llama):
        pass


@pytest.mark.parametrize("inner", PRUNERS, ids=NAMES)
def test_a_second_pruner_is_refused(qwen2_vl, inner):
    with Dart(keep=0.5)(qwen2_vl), pytest.raises(ValueError, match="already"), inner(qwen2_vl):
        pass
    assert hooks(qwen2_vl) == 0


@pytest.mark.parametrize("pruner", LATER, ids=NAMES)
def test_what_cannot_be_pruned_is_refused_with_a_reason(qwen2_vl, pruner):
    inputs = tiny.prompt(2, VIDEO, 3)
    twice = inputs | {name: inputs[name].repeat(2, 1) for name in inputs if inputs[name].ndim == 2}
    static = StaticCache(config=qwen2_vl.config.text_config, max_cache_len=64)
    embeddings = qwen2_vl.get_input_embeddings()(torch.tensor([[1, 2, 3]]))
    with pruner(qwen2_vl):
        with pytest.raises(ValueError, match="one prompt at a time, got a batch of 2"):
            qwen2_vl(**twice)
        with pytest.raises(ValueError, match=r"needs a DynamicCache \(use_cache=True\), got NoneType"):
            qwen2_vl(**inputs, use_cache=False)
        with pytest.raises(ValueError, match=r"needs a DynamicCache \(use_cache=True\), got StaticCache"):
            qwen2_vl(**inputs, past_key_values=static)
        with pytest.raises(ValueError, match="pass input_ids"):
            qwen2_vl(inputs_embeds=embeddings)


@pytest.mark.parametrize("pruner", LATER, ids=NAMES)
def test_a_cache_that_does_not_hold_a_prompt_pruned_here_is_refused(qwen2_vl, pruner):
    token = torch.tensor([[5]])
    _, foreign = run(qwen2_vl, MIXED)
    with pruner(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED, 2)
        with pytest.raises(ValueError, match="filled outside"):
            qwen2_vl(input_ids=token, past_key_values=foreign)
        with pytest.raises(ValueError, match=r"filled outside .* or copied"):
            qwen2_vl(input_ids=token, past_key_values=copy.deepcopy(cache))


@pytest.mark.parametrize("pruner", LATER, ids=NAMES)
def test_a_prompt_in_pieces_is_refused_where_a_later_piece_holds_visual_tokens(qwen2_vl, pruner):
    piece = tiny.prompt(3, IMAGE, 2)
    with pruner(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED)
        with pytest.raises(ValueError, match="pass the prompt in one piece"):
            qwen2_vl(**piece, position_ids=torch.tensor(oracle.places(3, IMAGE, 2)).T[:, None], past_key_values=cache)


@pytest.mark.parametrize("kernel", ["sdpa", "eager", "flash_by_hand"])
@pytest.mark.parametrize("pruner", LATER, ids=NAMES)
def test_several_words_at_once_behind_the_prompt_equal_one_after_the_other(qwen2_vl, flash, pruner, kernel):
    words, start = torch.tensor([[5, 17, 33]]), oracle.places(*MIXED, 1)[-1][0]
    places = torch.arange(start, start + 3).expand(3, 1, 3)
    with pruner(qwen2_vl):
        _, cache = run(qwen2_vl, MIXED)
        want = [
            qwen2_vl(input_ids=words[:, i, None], position_ids=places[..., i, None], past_key_values=cache).logits[0, 0]
            for i in range(3)
        ]
        cache.crop(-3)  # as speculative decoding does
        with attention(qwen2_vl, kernel):
            got = qwen2_vl(input_ids=words, position_ids=places, past_key_values=cache).logits[0]
    assert all(error(g, w) < 1e-5 for g, w in zip(got, want, strict=True))
