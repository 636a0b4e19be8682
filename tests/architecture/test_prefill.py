"""Prefill in chunks: what one piece gives, from fewer rows at a time, whatever is pruned between the layers."""

from contextlib import nullcontext, suppress

import pruned_runs
import pytest
import tiny
import torch
from probes import error
from transformers import DynamicCache

from ipcv import Dart, FastV, V2Drop
from ipcv.architecture.positions import prompt_positions
from ipcv.architecture.prefill import in_chunks

PARTS = (4, ("video", 9, 4, 6), 3, ("image", 1, 4, 6), 6)
PRUNERS = [None, Dart(keep=0.5, layer=3), FastV(keep=0.5, layer=2), V2Drop(keep=(0.7, 0.6, 0.5), layers=(1, 2, 4))]


def rows_computed(model, chunk, pruner):
    """The most rows that each layer's feed-forward part was given at once."""
    most = {}

    def note(layer, args):
        most[layer] = max(most.get(layer, 0), args[0].shape[1])

    handles = [layer.mlp.register_forward_pre_hook(note) for layer in model.get_decoder().layers]
    try:
        run(model, chunk, pruner)
    finally:
        for handle in handles:
            handle.remove()
    return list(most.values())


def run(model, chunk, pruner):
    """Logits of the prompt and of three steps behind it, and the cache."""
    inputs = tiny.prompt(*PARTS)
    grids = {name: grid for name, grid in inputs.items() if name.endswith("grid_thw")}
    positions = prompt_positions(model, inputs["input_ids"], inputs["mm_token_type_ids"], **grids)
    cache = DynamicCache(config=model.config.text_config)
    with pruner(model) if pruner else nullcontext():
        with in_chunks(model, chunk):
            out = model(**inputs, position_ids=positions, past_key_values=cache, use_cache=True)
        logits = [out.logits[0, -1]]
        for step in range(3):
            token, place = logits[-1].argmax().view(1, 1), (positions.max() + 1 + step).expand(3, 1, 1)
            logits.append(model(input_ids=token, position_ids=place, past_key_values=cache).logits[0, -1])
    return logits, cache


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 32, 74])
def test_chunks_equal_one_piece(qwen2_vl, chunk, pruner, kernel):
    before = qwen2_vl.config._attn_implementation
    qwen2_vl.set_attn_implementation(kernel)
    try:
        want, whole = run(qwen2_vl, 10**6, pruner)
        got, parts = run(qwen2_vl, chunk, pruner)
    finally:
        qwen2_vl.set_attn_implementation(before)
    assert pruned_runs.lengths(parts) == pruned_runs.lengths(whole)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(parts.layers, whole.layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_chunks_equal_the_method_written_naively(qwen2_vl, pruner):
    want, _ = pruned_runs.oracle_run(qwen2_vl, PARTS, pruner, 3)
    got, _ = run(qwen2_vl, 10, pruner)
    assert all(error(mine, naive) < 1e-5 for mine, naive in zip(got, want, strict=True))


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_no_layer_computes_more_than_a_chunk_at_a_time(qwen2_vl, pruner):
    assert rows_computed(qwen2_vl, 10, pruner) == [10] * len(qwen2_vl.get_decoder().layers)
    assert rows_computed(qwen2_vl, 10**6, None)[0] == tiny.prompt(*PARTS)["input_ids"].shape[1]


def test_without_the_triangle_between_chunks_the_result_is_another_one(qwen2_vl, monkeypatch):
    want, _ = run(qwen2_vl, 10**6, None)
    monkeypatch.setattr("ipcv.architecture.prefill._mask", lambda *_: None)
    got, _ = run(qwen2_vl, 10, None)
    assert not torch.allclose(got[0], want[0], atol=1e-2)


@pytest.mark.parametrize("error", [None, RuntimeError("stop")])
def test_layers_have_their_own_forward_back(qwen2_vl, error):
    with suppress(RuntimeError), in_chunks(qwen2_vl, 4):
        assert all("forward" in vars(layer) for layer in qwen2_vl.get_decoder().layers)
        if error:
            raise error
    assert not any("forward" in vars(layer) for layer in qwen2_vl.get_decoder().layers)
