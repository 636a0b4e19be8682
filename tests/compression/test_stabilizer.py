"""Keys and values of dropped tokens, against the method written naively, for every kind of encoder."""

from typing import Any

import oracle_reuse
import pytest
import torch
from moving_patches import Family
from probes import attention, error

from ipcv import IPCV

LATER: dict[str, Any] = {"keep": 0.3, "layer": 2, "neighbors": 3}
RUNS = [
    pytest.param({"stabilizer": "neighbors"}, id="every later block"),
    pytest.param({"stabilizer": "neighbors", "stabilize": 2, "blend": "mean", "select": "change"}, id="two blocks"),
    pytest.param({"stabilizer": "states", "layer": 1}, id="by states"),
]


@pytest.mark.parametrize("settings", RUNS)
def test_stabilised_blocks_equal_the_method_written_naively(family, settings):
    clip, naive = family.patches(2), family.naive(family.patches(2))
    want = oracle_reuse.run(naive, family.pixels(clip), oracle_reuse.Settings(**LATER | settings), range(2))
    with IPCV(**{"stabilize": "all"} | LATER | settings, reuse=0)(family.model) as kept:
        got = family.encode(clip)
    assert kept[0].tolist() == want.lengths
    family.compare(got, want, naive)


def test_the_two_ways_differ_but_not_much(family):
    clip = family.patches(3)
    plain, outputs = family.encode(clip).pooler_output, []
    for stabilizer in ("states", "neighbors"):
        with IPCV(**LATER, stabilizer=stabilizer, reuse=0)(family.model):
            outputs.append(family.encode(clip).pooler_output)
    states, neighbors = outputs
    assert not torch.equal(states, neighbors)
    assert error(neighbors, states) < error(neighbors, plain)


def test_eager_attention_equals_sdpa(family):
    clip, settings = family.patches(3), IPCV(**LATER, stabilizer="neighbors", reuse=0)
    with settings(family.model):
        want = family.encode(clip).pooler_output
        with attention(family.model, "eager"):
            got = family.encode(clip).pooler_output
    assert error(got, want) < 1e-5


def test_with_one_kept_token_every_key_is_its_own():
    """The mean over one neighbour is that neighbour; the naive method says the same."""
    family = Family.of("qwen2_vl")
    clip, naive = family.patches(2), family.naive(family.patches(2))
    settings = {"keep": 0.03, "layer": 1, "neighbors": 5, "stabilizer": "neighbors"}
    want = oracle_reuse.run(naive, family.pixels(clip), oracle_reuse.Settings(**settings), range(2))
    assert want.chosen == 1
    with IPCV(**settings, reuse=0)(family.model):
        family.compare(family.encode(clip), want, naive)
