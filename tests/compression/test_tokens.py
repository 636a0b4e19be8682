"""The method's tensor functions against loops."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ipcv.compression.compressors.tensors import tokens
from ipcv.compression.compressors.tensors.tokens import (
    TEMPERATURE,
    Split,
    distance_weights,
    kept_bounds,
    mask_of,
    nearest,
)
from ipcv.compression.shares import kept_count

seeds = st.integers(0, 2**31)
few_examples = settings(max_examples=30, deadline=None, derandomize=True)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def choices(draw: st.DrawFn, least: int = 1) -> tuple[int, list[int]]:
    """A number of tokens and some of their positions, ascending."""
    length = draw(st.integers(max(least, 1), 24))
    return length, sorted(draw(st.sets(st.integers(0, length - 1), min_size=least)))


@given(queries=st.integers(0, 12), points=st.integers(1, 12), count=st.integers(1, 15), seed=seeds)
@pytest.mark.parametrize("chunk_bytes", [1, 100, 2**20])
@few_examples
def test_nearest_equals_a_loop_for_any_size_of_chunks(chunk_bytes, queries, points, count, seed):
    q, p = random(queries, 5, seed=seed), random(points, 5, seed=seed + 1)
    before = tokens.CHUNK_BYTES
    tokens.CHUNK_BYTES = chunk_bytes
    try:
        got = nearest(q, p, count)
    finally:
        tokens.CHUNK_BYTES = before
    want = [sorted(range(points), key=lambda j, row=row: float((row - p[j]).norm()))[:count] for row in q]
    distances, indices = got
    assert distances.shape == indices.shape == (queries, min(count, points))
    assert indices.tolist() == want
    squares = torch.cdist(q.double(), p.double()).square().gather(1, indices)
    assert torch.allclose(distances.double(), squares, atol=1e-4)


def test_nearest_is_exact_where_one_channel_is_huge_in_every_token():
    queries, points = random(40, 8, seed=0), random(30, 8, seed=1)
    offset = torch.zeros(8)
    offset[3] = 4096.0
    _, far = nearest(queries + offset, points + offset, 3)
    distances = torch.cdist((queries + offset).double(), (points + offset).double())
    assert torch.equal(far, distances.topk(3, largest=False).indices)


def test_nearest_holds_at_most_a_chunk_of_distances(monkeypatch):
    rows = []
    addmm = torch.addmm
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 4 * 10 * 7)
    monkeypatch.setattr(torch, "addmm", lambda *args, **kwargs: rows.append(len(args[1])) or addmm(*args, **kwargs))
    nearest(random(40, 3, seed=0), random(10, 3, seed=1), 2)
    assert rows == [7] * 5 + [5]


@given(choice=choices(), data=st.data())
@few_examples
def test_kept_bounds_equal_a_loop(choice, data):
    length, keep = choice
    cuts = data.draw(st.sets(st.integers(1, length - 1))) if length > 1 else set()
    borders = [0, *sorted(cuts), length]
    want = [0]
    for start, end in pairwise(borders):
        want.append(want[-1] + sum(start <= token < end for token in keep))
    got = kept_bounds(torch.tensor(borders, dtype=torch.int32), mask_of(torch.tensor(keep), length))
    assert got.tolist() == want
    assert got.dtype == torch.int32


def test_the_first_token_of_a_frame_belongs_to_its_own_frame():
    bounds = kept_bounds(torch.tensor([0, 4, 8, 12]), mask_of(torch.tensor([0, 3, 4, 5, 8, 11]), 12))
    assert bounds.tolist() == [0, 2, 4, 6]


@given(choice=choices(), neighbors=st.integers(1, 30), seed=seeds)
@few_examples
def test_a_split_takes_the_stream_apart_and_restores_it(choice, neighbors, seed):
    length, keep = choice
    states, change = random(length, 4, seed=seed), random(len(keep), 4, seed=seed + 1)
    split = Split.of(states, torch.tensor(keep), states, neighbors, "mean")
    drop = [token for token in range(length) if token not in keep]

    assert split.keep.tolist() == keep
    assert split.drop.tolist() == drop
    assert torch.equal(split.kept, states[keep])
    assert torch.equal(split.dropped, states[drop])

    want = states.clone()
    for row, token in enumerate(keep):
        want[token] = states[token] + change[row]
    for token in drop:
        rows = sorted(range(len(keep)), key=lambda row, t=token: float((states[t] - states[keep[row]]).norm()))
        rows = rows[:neighbors]
        want[token] = states[token] + sum(change[row] for row in rows) / len(rows)
    torch.testing.assert_close(split.restore(split.kept + change), want)


@given(choice=choices(), neighbors=st.integers(1, 30), seed=seeds)
@few_examples
def test_neighbours_weigh_by_their_distance_where_that_is_wanted(choice, neighbors, seed):
    length, keep = choice
    states, features = random(length, 4, seed=seed), random(length, 6, seed=seed + 2)
    change = random(len(keep), 4, seed=seed + 1)
    split = Split.of(states, torch.tensor(keep), features, neighbors, "distance")
    want = states.clone()
    for row, token in enumerate(keep):
        want[token] = states[token] + change[row]
    for token in (token for token in range(length) if token not in keep):
        far = torch.stack([(features[token] - features[other]).square().sum() for other in keep])
        rows = far.argsort()[:neighbors]
        shares = (-far[rows] / (TEMPERATURE * far.min())).softmax(0)
        want[token] = states[token] + shares @ change[rows]
    torch.testing.assert_close(split.restore(split.kept + change), want, atol=1e-4, rtol=1e-4)


def test_a_neighbour_that_is_the_same_takes_all_the_weight():
    weights = distance_weights(torch.tensor([[0.0, 1e-3, 2.0], [0.0, 0.0, 1.0]]))
    assert torch.allclose(weights, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), atol=1e-6)


@given(choice=choices(), data=st.data(), seed=seeds)
@few_examples
def test_a_split_of_patches_among_other_tokens_keeps_those_and_takes_none_for_a_neighbour(choice, data, seed):
    length, keep = choice
    others = data.draw(st.integers(1, 5))
    patches = sorted(data.draw(st.permutations(range(length + others)))[:length])
    states = random(length + others, 4, seed=seed)
    alone = Split.of(states[patches], torch.tensor(keep), states[patches], 3, "distance")
    split = alone.among(states, torch.tensor(patches))
    assert split.keep.tolist() == sorted({*range(length + others)} - {patches[i] for i in alone.drop.tolist()})
    change = random(len(split.keep), 4, seed=seed + 1)
    restored = split.restore(split.kept + change)
    inside = torch.isin(split.keep, torch.tensor(patches))
    torch.testing.assert_close(restored[patches], alone.restore(alone.kept + change[inside]))
    assert torch.equal(restored[split.keep], split.kept + change)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_restoring_unchanged_tokens_gives_the_stream_bit_for_bit(dtype):
    states = random(20, 6, seed=0).to(dtype)
    split = Split.of(states, torch.tensor([1, 4, 5, 13]), states, 3, "distance")
    assert torch.equal(split.restore(split.kept), states)


@pytest.mark.parametrize(
    ("count", "keep", "want"), [(10, 0.35, 3), (100, 0.35, 35), (7, 0.99, 6), (3, 0.3, 0), (5, 1, 5)]
)
def test_the_number_of_kept_tokens_is_rounded_down(count, keep, want):
    assert kept_count(count, keep) == want
