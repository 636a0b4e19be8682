"""The numbers of published checkpoints: counted once more, and held against what bitsandbytes really takes."""

import sys
from pathlib import Path

import pytest
from bitsandbytes.nn import Linear4bit

import ipcv
from ipcv.families import FAMILIES
from ipcv.models.checkpoints import DEMO_CHECKPOINT, DEMO_FAMILY, KNOWN, Checkpoint

sys.path.append(str(Path(__file__).parents[2] / "examples"))
import count_parameters

CHECKPOINTS = {each.name: (family, each) for family, known in KNOWN.items() for each in known.checkpoints}


def test_every_family_that_answers_is_known_and_no_other():
    assert set(KNOWN) == {name for name, family in FAMILIES.items() if family.language}


def test_the_sizes_of_every_checkpoint_are_there():
    assert list(count_parameters.SIZES) == list(CHECKPOINTS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_has_the_parameters_that_follow_from_its_sizes(name):
    assert count_parameters.count(name) == CHECKPOINTS[name]


def test_the_demo_model_has_those_that_are_said(demo):
    network = demo.loaded.network
    assert Checkpoint("demo", network.num_parameters(), count_parameters.quantised(network)) == DEMO_CHECKPOINT
    assert demo.facts.family == DEMO_FAMILY


def test_four_bits_take_the_bytes_that_are_said():
    network = ipcv.load("demo", quant="4bit", dtype="bfloat16").loaded.network
    quantised = [module.weight for module in network.modules() if isinstance(module, Linear4bit)]
    packed = {weight.data_ptr() for weight in quantised}
    held = sum(weight.nbytes + scales(weight.quant_state) for weight in quantised)
    held += sum(weight.nbytes for weight in network.parameters() if weight.data_ptr() not in packed)
    assert DEMO_CHECKPOINT.quantised == sum(weight.quant_state.shape.numel() for weight in quantised)
    assert held == pytest.approx(DEMO_CHECKPOINT.bytes_4bit, rel=0.001)


def scales(state):
    """Bytes of the scales of a quantised weight, without the two small tables that each layer has."""
    return state.absmax.nbytes + state.state2.absmax.nbytes
