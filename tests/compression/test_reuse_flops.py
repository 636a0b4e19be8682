"""FLOPs of passes that reuse, against torch's own counter while tiny models run, and operation by operation."""

from typing import Any

import pytest
import torch
from family_cases import CASES
from flop_count import ELEMENTWISE, aten, count, count_pass, per_input
from moving_patches import ENCODERS, THRESHOLD, Family, changing, resized, still
from probes import attention
from torch import Tensor

from ipcv import IPCV
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.compression.compressors.tensors.changes import Rule, computed_patches
from ipcv.compression.compressors.tensors.features import describe
from ipcv.families import find_encoder, find_language

RULE: dict[str, Any] = {"reuse": THRESHOLD, "cut": 0.6, "refresh": 99, "layer": 2}
RUNS = [{"keep": 1}, {"keep": 0.4, "stabilizer": "neighbors"}, {"keep": 0.4, "stabilizer": "states", "blend": "mean"}]
COMPARING = {**ELEMENTWISE, aten._adaptive_avg_pool2d: per_input(1)}


@pytest.fixture(params=[name for name in ENCODERS if name in CASES])
def answering(request) -> Family:
    """A family that answers, whose FLOPs are counted; with larger slices where they may have any size."""
    family = Family.of(request.param)
    return family if family.is_framed else resized(family, (8, 12))


def work_of(family: Family, slices: int, kept: Any) -> PassWork:
    """The last pass in numbers."""
    encoder, grids = find_encoder(family.model), family.grids(slices)
    return PassWork(
        frames=encoder.frames(grids),
        windows=encoder.divisions(grids)[-1],
        computed=kept.computed[-1].tolist(),
        kept=kept[-1].tolist(),
    )


def own_work(family: Family, clip: Tensor, before: Tensor, *, describes: bool) -> int:
    """FLOPs that torch's counter leaves out of a pass over `clip`, as its operations add up to them.

    Its pixels are compared with those of `before`, and features are made of all its patches.
    """
    pixels = [each.unflatten(1, family.size) for each in (before, clip)]
    rule = Rule(THRESHOLD * family.range, 0.6, 99)
    _, left = computed_patches(pixels[0], rule)
    total = count(lambda: computed_patches(pixels[1], rule, left), also=COMPARING).get_total_flops()
    if describes:
        grids, merge = family.grids(len(clip)), find_encoder(family.model).merge
        states = torch.randn(clip.shape[0] * clip.shape[1], 32)
        total += count(lambda: describe(states, grids, merge), also=ELEMENTWISE).get_total_flops()
    return total


@pytest.mark.parametrize("settings", RUNS, ids=str)
def test_an_encoder_costs_what_torch_counts(answering, settings):
    family, compressor = answering, IPCV(**RULE | settings)
    clip = changing(family)
    with attention(family.model, "eager"), compressor(family.model, video=True) as kept:
        for before, part in ((clip[:1], clip[:3]), (clip[:3], clip[3:5])):
            counter, _ = count_pass(family.model, lambda part=part: family.encode(part))
            work = work_of(family, len(part), kept)
            counted = counter.get_total_flops() + own_work(family, part, before, describes=settings["keep"] != 1)
            assert flops(family, work, compressor) == pytest.approx(counted, rel=0.005)
            assert flops(family, work, compressor) < 0.8 * flops(family, work)


@pytest.mark.parametrize("keep", [1, 0.4])
def test_where_nothing_is_computed_only_the_ends_and_the_comparison_cost(answering, keep):
    family, compressor = answering, IPCV(**RULE, keep=keep)
    clip = still(family, 3)
    with attention(family.model, "eager"), compressor(family.model, video=True) as kept:
        family.encode(clip[:1])
        counter, _ = count_pass(family.model, lambda: family.encode(clip[1:]))
    work = work_of(family, 2, kept)
    counted = counter.get_total_flops() + own_work(family, clip[1:], clip[:1], describes=keep != 1)
    assert flops(family, work, compressor) == pytest.approx(counted, rel=0.01)
    assert flops(family, work, compressor) < 0.25 * flops(family, work)


def flops(family: Family, work: PassWork, compressor: IPCV | None = None) -> int:
    shape = find_language(family.model.config.model_type).vision(family.model.config)
    return encoder_flops(shape, work, compressor)
