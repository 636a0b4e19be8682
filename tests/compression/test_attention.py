"""Attention of some tokens over others, segment by segment, against a loop over segments."""

import inspect
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from flop_count import FUSED, count
from probes import looped
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from ipcv.compression.compressors.tensors import attention
from ipcv.compression.compressors.tensors.attention import attend, runs_packed
from ipcv.compression.compressors.tensors.packing import PackedSegments, alike

LENGTHS = [((3, 3), (5, 5)), ((3, 0, 4), (5, 5, 5)), ((1, 2), (7, 2)), ((4,), (9,)), ((0, 0, 2), (1, 4, 3))]
LENGTHS += [((6, 0, 1, 2, 1), (6,) * 5), ((3, 0, 2), (3, 0, 2)), ((2, 2, 1, 2, 0), (4, 4, 4, 4, 4))]
MODULE = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))


def random_heads(queries: tuple[int, ...], keys: tuple[int, ...], width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(n, 2, width, generator=generator) for n in (sum(queries), sum(keys), sum(keys)))
    return query, key, value


def segments(*lengths: tuple[int, ...], device: str = "cpu") -> list[PackedSegments]:
    return [PackedSegments.of(each, torch.device(device)) for each in lengths]


@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_each_segment_of_queries_sees_its_own_segment_of_keys_only(queries, keys):
    heads = random_heads(queries, keys)
    got = attend(MODULE, heads, *segments(queries, keys), scale=0.5)
    torch.testing.assert_close(got, looped(heads, queries, keys, 0.5).flatten(1))


def test_what_has_no_queries_costs_nothing_and_nothing_is_padded():
    queries, keys = (64, 3, 0, 1, 3), (64,) * 5
    heads = random_heads(queries, keys)
    counter = count(lambda: attend(MODULE, heads, *segments(queries, keys), scale=0.5), also=FUSED)
    assert counter.get_total_flops() == 4 * 64 * sum(queries) * 2 * 4


def test_segments_that_are_alike_go_through_one_kernel_call_as_they_lie(monkeypatch):
    given = []
    kernel = attention.F.scaled_dot_product_attention
    monkeypatch.setattr(
        attention.F,
        "scaled_dot_product_attention",
        lambda *heads, **named: given.append(heads) or kernel(*heads, **named),
    )
    heads = random_heads((3, 3, 3), (5, 5, 5))
    attend(MODULE, heads, *segments((3, 3, 3), (5, 5, 5)), scale=0.5)
    ((_, key, _),) = given
    assert key.shape == (3, 2, 5, 4)
    assert key.data_ptr() == heads[1].data_ptr()


@pytest.mark.parametrize("keys", [(5, 2), (0, 0)])
def test_there_may_be_no_queries_at_all(keys, packed):
    got = attend(MODULE, random_heads((0, 0), keys), *segments((0, 0), keys), scale=0.5)
    assert got.shape == (0, 8)
    assert not packed


@pytest.mark.parametrize(("queries", "keys"), [lengths for lengths in LENGTHS if len(alike(*lengths)) > 1])
def test_torchs_kernel_for_packed_rows_is_told_bounds_longest_lengths_and_scale(packed, queries, keys):
    heads = random_heads(queries, keys)
    got = attend(MODULE, heads, *segments(queries, keys), scale=0.3)
    torch.testing.assert_close(got, looped(heads, queries, keys, 0.3).flatten(1))
    (told,) = packed
    for side, lengths in (("q", queries), ("k", keys)):
        assert told[f"cu_seq_{side}"].dtype == torch.int32
        assert told[f"cu_seq_{side}"].diff().tolist() == list(lengths)
        assert told[f"max_{side}"] == max(lengths)
    assert told["scale"] == 0.3
    assert not told.get("is_causal")


def test_segments_of_one_length_need_no_kernel_for_packed_rows(packed):
    heads = random_heads((3, 3), (5, 5))
    got = attend(MODULE, heads, *segments((3, 3), (5, 5)), scale=0.5)
    torch.testing.assert_close(got, looped(heads, (3, 3), (5, 5), 0.5).flatten(1))
    assert not packed


def test_torchs_kernel_for_packed_rows_takes_a_scale():
    assert "scale" in inspect.signature(varlen_attn).parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_for_packed_rows_does_not_run_on_a_cpu(dtype):
    query, key, value = random_heads((3, 1), (5, 2), width=16)
    assert not runs_packed((query.to(dtype), key.to(dtype), value.to(dtype)))


@pytest.mark.gpu
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
@pytest.mark.parametrize(("width", "dtype"), [(80, torch.bfloat16), (72, torch.float16), (64, torch.bfloat16)])
def test_the_kernel_for_packed_rows_gives_on_a_gpu_what_the_loop_does(queries, keys, width, dtype):
    heads = random_heads(queries, keys, width)
    query, key, value = (each.to("cuda", dtype) for each in heads)
    assert runs_packed((query, key, value))
    for kernel in (attention._packed, partial(attention._grouped, alike(queries, keys))):
        got = kernel((query, key, value), *segments(queries, keys, device="cuda"), scale=0.3)
        want = looped(heads, queries, keys, 0.3)
        torch.testing.assert_close(got.float().cpu(), want, atol=0.02, rtol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize(("width", "dtype"), [(80, torch.float32), (20, torch.bfloat16), (264, torch.bfloat16)])
def test_the_kernel_for_packed_rows_is_left_alone_where_it_cannot_run(width, dtype):
    query, key, value = (each.to("cuda", dtype) for each in random_heads((3, 1), (5, 2), width))
    assert not runs_packed((query, key, value))
