"""Windows and pictures: what transformers' own pass gives of a whole prompt, and the naive one of any part of it."""

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import family_cases
import oracle
import oracle_gemma
import oracle_rivals
import pytest
import tiny_gemma
import torch
from flop_count import count
from hypothesis import given
from hypothesis import strategies as st
from probes import attention, error, hooks
from tiny_gemma import SLIDING, WHOLE
from transformers import DynamicCache

from ipcv import Dart, FastV, V2Drop
from ipcv.architecture.masks import kernel_mask
from ipcv.architecture.shapes import TextShape
from ipcv.architecture.windows import pieces
from ipcv.compression.pruners.decoder_flops import cache_tokens, decode_flops, prefill_flops
from ipcv.inference.generate import Chooser, decode, prefill
from ipcv.inference.generate_batch import decode_together
from ipcv.models.prompt import TEXT

CASE = family_cases.CASES["gemma3"]
AS_PUBLISHED = (SLIDING, SLIDING, WHOLE, SLIDING, WHOLE)  # layer 0 has a window
LATE = (SLIDING, SLIDING, SLIDING, WHOLE, SLIDING)  # every layer that sees the whole prompt comes behind the pruning
PRUNERS = [
    Dart(keep=0.4, layer=1),
    Dart(keep=0.4, layer=2),
    FastV(keep=0.4, layer=3),
    V2Drop(keep=(0.5, 0.5), layers=(1, 3)),
]
MODELS = {}


def gemma(window=20, kinds=AS_PUBLISHED):
    key = (window, kinds)
    if key not in MODELS:
        MODELS[key] = tiny_gemma.gemma3(depth=1, window=window, kinds=list(kinds))
    return MODELS[key]


def some(model, seed=0):
    """About half of the visual tokens of the prompt, as a mask."""
    _, visual, _ = family_cases.ask(CASE, model)
    return torch.rand(len(visual), generator=torch.Generator().manual_seed(seed)) < 0.5


def begun(model, stays=None, chunk=2048, after=5):
    """The prompt in its cache, in the way of `ipcv ask`, with those visual tokens that stay."""
    prompt, visual, positions = family_cases.ask(CASE, model, after=after)
    stays = torch.ones(len(visual), dtype=torch.bool) if stays is None else stays
    rows = prompt.rows(stays)
    return prefill(model, prompt.only(rows), visual[stays], positions[:, rows], chunk=chunk)


def run(model, steps, stays=None, chunk=2048):
    """The logits behind the prompt and behind some greedy tokens, and the cache."""
    logits = []

    def greedy(_, scores):
        logits.append(scores[0])
        return scores.argmax(-1)

    decoding = begun(model, stays, chunk)
    list(decode(model, decoding, greedy, steps + 1))
    return logits, decoding.cache


def transformers_run(model, steps):
    """The same by transformers alone."""
    prompt, _, _ = family_cases.ask(CASE, model)
    inputs = {"pixel_values": CASE.input([CASE.grid]), "token_type_ids": prompt.types}
    cache = DynamicCache(config=model.config.text_config)
    logits = [model(input_ids=prompt.ids, **inputs, past_key_values=cache).logits[0, -1]]
    for _ in range(steps):
        logits.append(model(input_ids=logits[-1].argmax().view(1, 1), past_key_values=cache).logits[0, -1])
    return logits, cache


def naive_run(model, pruner, steps, stays=None):
    """The same written naively, and how long each layer's cache is."""
    prompt, visual, _ = family_cases.ask(CASE, model)
    if isinstance(pruner, V2Drop):
        both = type("Both", (oracle_gemma.LanguageModel, oracle_rivals.LanguageModel), {})
        language = both(model, steps=pruner.layers, shares=pruner.keep)
    else:
        method = oracle.dart if isinstance(pruner, Dart) else oracle.fastv
        language = oracle_gemma.LanguageModel(model, *((pruner.layer, method(pruner.keep)) if pruner else ()))
    rows = list(range(prompt.ids.shape[1])) if stays is None else prompt.rows(stays).tolist()
    is_visual = (prompt.types[0] != TEXT).tolist()
    states = language.embed(prompt.ids[0].tolist())
    states[torch.tensor(is_visual)] = visual.tokens.double()
    logits = [language.feed(states[rows], [(row,) for row in rows], [is_visual[row] for row in rows])]
    for step in range(steps):
        word = language.embed([int(logits[-1].argmax())])
        logits.append(language.feed(word, [(len(is_visual) + step,)], [False]))
    return logits, language.lengths()


def same(got, want):
    return [error(*pair) < 1e-4 for pair in zip(got, want, strict=True)] == [True] * len(want)


def held(cache):
    return [layer.keys.shape[2] for layer in cache.layers]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("chunk", [1, 19, 40, 2048])
@pytest.mark.parametrize("window", [10, 20, 99, 1000], ids="window{}".format)  # a picture has 16 tokens, the prompt 100
def test_a_whole_prompt_is_passed_as_by_transformers(window, chunk, kernel):
    model = gemma(window)
    before = hooks(model)
    with attention(model, kernel), attention(model.model.language_model, kernel):
        want, theirs = transformers_run(model, 3)
        got, mine = run(model, 3, chunk=chunk)
    assert same(got, want)
    for own, other in zip(mine.layers, theirs.layers, strict=True):
        torch.testing.assert_close(own.keys, other.keys, atol=1e-4, rtol=1e-4)
    assert hooks(model) == before


@pytest.mark.parametrize("what", ["window", "picture"])
def test_windows_and_pictures_make_a_difference(what, monkeypatch):
    want, _ = run(gemma(20), 0)
    if what == "window":
        got, _ = run(gemma(1000), 0)
    else:
        monkeypatch.setattr(
            "ipcv.inference.generate.token_table", lambda places, _: torch.stack([places, torch.full_like(places, -1)])
        )
        got, _ = run(gemma(20), 0)
    assert error(got[0], want[0]) > 0.05


@pytest.mark.parametrize("window", [10, 30])
def test_where_tokens_are_left_out_a_window_goes_by_positions(window):
    model = gemma(window)
    got, cache = run(model, 3, some(model))
    want, lengths = naive_run(model, None, 3, some(model))
    assert same(got, want)
    assert held(cache) == lengths


@pytest.mark.parametrize("chunk", [19, 2048])
@pytest.mark.parametrize("window", [10, 30])
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_pruning_in_part_of_a_prompt_equals_the_naive_one(pruner, window, chunk):
    model = gemma(window)
    before = hooks(model)
    with pruner(model):
        got, cache = run(model, 3, some(model), chunk)
    want, lengths = naive_run(model, pruner, 3, some(model))
    assert same(got, want)
    assert held(cache) == lengths
    assert hooks(model) == before


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("kinds", [AS_PUBLISHED, LATE], ids=["as published", "late"])
@pytest.mark.parametrize("pruner", [Dart(keep=0.4, layer=1), V2Drop(keep=(0.5, 0.5), layers=(2, 4))], ids=str)
def test_pruning_in_transformers_own_generation_equals_the_naive_one(pruner, kinds, kernel):
    model = gemma(30, kinds)
    want, lengths = naive_run(model, pruner, 5)
    with pruner(model), attention(model, kernel), attention(model.model.language_model, kernel):
        got, cache = transformers_run(model, 5)
    assert same(got, want)
    assert held(cache) == lengths


def test_a_cache_without_windows_is_pruned_as_well():
    model, pruner = gemma(30), Dart(keep=0.4, layer=1)
    prompt, _, _ = family_cases.ask(CASE, model)
    inputs = {"pixel_values": CASE.input([CASE.grid]), "token_type_ids": prompt.types}
    want, _ = naive_run(model, pruner, 1)
    with pruner(model):
        cache = DynamicCache()
        first = model(input_ids=prompt.ids, **inputs, past_key_values=cache).logits[0, -1]
        second = model(input_ids=first.argmax().view(1, 1), past_key_values=cache).logits[0, -1]
    assert same([first, second], want)


def test_answers_written_together_are_those_written_alone():
    model = gemma(30)
    prompts = [(None, 5, None), (some(model), 9, Dart(keep=0.4, layer=2)), (some(model, 1), 3, None)]
    alone, together = [], []
    for stays, after, pruner in prompts:
        with pruner(model) if pruner else nullcontext():
            decoding = begun(model, stays, after=after)
            alone.append(list(decode(model, decoding, Chooser(model, 0.0, 0), 40)))
            together.append(begun(model, stays, after=after))
    decode_together(model, together, [Chooser(model, 0.0, 0)] * len(prompts), 40)
    assert [decoding.tokens for decoding in together] == alone


@given(
    runs=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12),
    most=st.integers(1, 12),
)
def test_pieces_cut_no_picture_and_are_as_large_as_they_may_be(runs, most):
    pictures = torch.tensor(
        [at if is_picture else -1 for at, (size, is_picture) in enumerate(runs) for _ in range(size)]
    )
    found = list(pieces(pictures, most))
    assert [row for each in found for row in range(len(pictures))[each]] == list(range(len(pictures)))
    for one, other in pairwise(found):
        last, first = pictures[one][-1], pictures[other][0]
        assert last != first or first < 0
        rest = (pictures[other] == first).sum() if first >= 0 else 1  # what would have to be taken besides
        assert one.stop - one.start + rest > most
    for each in found:
        assert each.stop - each.start <= most or len(set(pictures[each].tolist())) == 1


@pytest.mark.parametrize("pruner", [None, Dart(keep=0.5, layer=3)], ids=str)
@pytest.mark.parametrize("window", [10, 40])
def test_chunks_with_windows_cost_what_torch_counts(pruner, window, monkeypatch):
    model = gemma(window, (SLIDING,) * 5)
    monkeypatch.setattr("ipcv.compression.pruners.decoder_flops.CHUNK", 22)  # a picture with the words around it
    shape, (prompt, visual, _) = TextShape.of(model.config.text_config), family_cases.ask(CASE, model)
    length = prompt.ids.shape[1]
    caches = []
    eager, pruned = attention(model, "eager"), pruner(model) if pruner else nullcontext()
    with eager, pruned:  # the counter knows no fused kernel
        encoder, first, all_ = (
            count(part).get_total_flops()
            for part in (
                lambda: family_cases.ask(CASE, model),
                lambda: run(model, 0, chunk=22),
                lambda: caches.append(run(model, 8, chunk=22)[1]),
            )
        )
    assert prefill_flops(shape, length, len(visual), pruner) == pytest.approx(first - encoder, rel=0.02)
    assert decode_flops(shape, length, len(visual), 9, pruner) == pytest.approx(all_ - first, rel=0.01)
    assert cache_tokens(shape, length + 8, len(visual), pruner) == sum(held(caches[0]))


def test_fastv_is_refused_behind_a_layer_that_sees_only_the_end():
    model = gemma()
    message = r"layer=2 goes by what layer 1 .* last 20 tokens only: use layer 3, or"
    with pytest.raises(ValueError, match=message), FastV(layer=2)(model):
        pass
    shape = TextShape.of(model.config.text_config)
    FastV(layer=2).check(replace(shape, windows=(0, 0, 20, 0, 20)))


def test_flash_attention_is_refused():
    with pytest.raises(ValueError, match=r"knows no masks .* use sdpa or eager"):
        kernel_mask(torch.ones(1, 2, 2, dtype=torch.bool), "flash_attention_2", torch.float32)


def test_flash_attention_takes_the_keys_of_a_single_query():
    seen = torch.tensor([[True, False, True], [False, True, True]])
    assert torch.equal(kernel_mask(seen[:, None], "flash_attention_2", torch.float32), seen)
