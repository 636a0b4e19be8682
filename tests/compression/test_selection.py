"""The rules that choose tokens, and what the tokens are compared by."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ipcv.compression.compressors.tensors import selection, tokens
from ipcv.compression.compressors.tensors.features import describe
from ipcv.compression.compressors.tensors.selection import RULES, Stream, choose, round_sizes

few_examples = settings(max_examples=30, deadline=None, derandomize=True)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stream(frames: int, rows: int, columns: int, seed: int = 0, *, still: bool = False) -> Stream:
    """Frames of random patches; all alike if `still`."""
    size = rows * columns
    states = random(1 if still else frames, size, 8, seed=seed).expand(frames, -1, -1).reshape(-1, 8)
    places = torch.arange(frames * size)
    return Stream(states - random(*states.shape, seed=seed + 1), states, states.float(), places // size, places % size)


@pytest.mark.parametrize("select", RULES)
@given(count=st.integers(1, 60), seed=st.integers(0, 2**31))
@few_examples
def test_a_rule_chooses_as_many_tokens_as_asked_for_none_twice_and_always_the_same(select, count, seed):
    chosen = choose(select, stream(3, 4, 5, seed), count)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == count
    assert 0 <= chosen.min() <= chosen.max() < 60
    assert torch.equal(chosen, choose(select, stream(3, 4, 5, seed), count))


@pytest.mark.parametrize("select", RULES)
def test_tokens_that_are_all_alike_are_no_trouble(select):
    same = Stream(*[torch.ones(40, 8)] * 3, torch.arange(40) // 20, torch.arange(40) % 20)
    assert len(set(choose(select, same, 23).tolist())) == 23


@given(count=st.integers(1, 20), seed=st.integers(0, 2**31))
@few_examples
def test_change_takes_the_tokens_with_the_largest_update(count, seed):
    given = stream(1, 4, 5, seed)
    update = (given.states - given.before).norm(dim=-1).tolist()
    want = sorted(range(20), key=lambda token: -update[token])[:count]
    assert choose("change", given, count).tolist() == sorted(want)


@pytest.mark.parametrize("keep", [0.05, 0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (24, 24), (24, 42), (10, 10), (32, 18)])
def test_uniform_spreads_over_time_rows_and_columns(keep, rows, columns):
    frames = 8
    chosen = choose("uniform", stream(frames, rows, columns), int(keep * frames * rows * columns))
    place = chosen % (rows * columns)
    for axis, size in ((chosen // (rows * columns), frames), (place // columns, rows), (place % columns, columns)):
        counts = axis.bincount(minlength=size).float()
        assert counts.max() < 1.7 * counts.mean() + 1


def test_coverage_leaves_no_token_as_far_from_all_chosen_ones_as_chance_does():
    given = stream(4, 8, 8)
    rare = given.features.clone()
    rare[200] += 50.0  # one patch that is like no other
    given = Stream(given.before, given.states, rare, given.frame, given.place)
    farthest = {
        select: torch.cdist(rare, rare[choose(select, given, 50)]).amin(1).max() for select in ("coverage", "random")
    }
    assert 200 in choose("coverage", given, 50)
    assert farthest["coverage"] < farthest["random"]


def test_coverage_keeps_what_repeats_once():
    """Of a clip that stands still the second half of the tokens is not spread over frames that show the same."""
    given = stream(6, 6, 6, still=True)
    chosen = choose("coverage", given, 60)
    assert len(set((chosen % 36).tolist())) > len(set((choose("random", given, 60) % 36).tolist()))


def test_coverage_holds_at_most_a_chunk_of_distances(monkeypatch):
    sizes = []
    addmm = torch.addmm
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 4 * 10 * 7)
    monkeypatch.setattr(torch, "addmm", lambda *a, **k: sizes.append(len(a[1]) * len(a[0])) or addmm(*a, **k))
    choose("coverage", stream(4, 5, 5), 20)
    assert max(sizes) <= 10 * 7


@given(count=st.integers(1, 10000))
@few_examples
def test_half_of_the_tokens_come_first_and_the_rest_in_even_rounds(count):
    first, *rounds = round_sizes(count)
    assert first == (count + 1) // 2
    assert first + sum(rounds) == count
    assert len(rounds) <= selection.ROUNDS
    assert not rounds or (min(rounds) > 0 and max(rounds) - min(rounds) <= 1)


@pytest.mark.parametrize("merge", [1, 2])
def test_a_patch_is_described_by_itself_those_around_and_its_frame(merge):
    grids = [(2, 4, 6), (1, 2, 2)]
    states = random(2 * 24 + 4, 5, seed=3)
    got = describe(states, grids, merge)
    normed = (states - states.mean(-1, keepdim=True)) / (states.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    want, start = [], 0
    for frames, rows, columns in grids:
        places = [
            (r + i, c + j)
            for r in range(0, rows, merge)
            for c in range(0, columns, merge)
            for i in range(merge)
            for j in range(merge)
        ]
        for _ in range(frames):
            own = normed[start : start + rows * columns]
            for i, (row, column) in enumerate(places):
                near = [j for j, (r, c) in enumerate(places) if abs(r - row) <= 1 and abs(c - column) <= 1]
                want.append(own[i] + own[near].mean(0) + 10 * own.mean(0))
            start += rows * columns
    expected = torch.stack(want)
    torch.testing.assert_close(got, expected - expected.mean(0), atol=1e-4, rtol=1e-4)
