"""How often the host waits for the device during a pass of the encoder: on a pretended GPU, and on a real one."""

import copy
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from family_cases import CASES, Case
from pretend import GPU, Pretended, pretended, to_gpu
from probes import error

import ipcv
from ipcv import IPCV, ToMe
from ipcv.architecture import grids
from ipcv.families import find_language

SETTINGS = {
    "ours": IPCV(keep=0.4),
    "ours, without reuse": IPCV(keep=0.4, reuse=0),
    "ours, not stabilised": IPCV(keep=0.4, stabilize=0),
    "paper": IPCV.paper(keep=0.4, layer=2, stabilize=1),
    "paper, not stabilised": IPCV.paper(keep=0.2, layer=1, stabilize=0),
}
MODELS: dict[str, tuple[Any, Any]] = {}


@pytest.fixture(autouse=True)
def _copies_as_cuda_does(monkeypatch):
    monkeypatch.setattr(grids, "NON_BLOCKING", (*grids.NON_BLOCKING, GPU.type))


def family(name: str) -> tuple[Case, Any, Any]:
    """A family, its tiny model, and the same on the pretended GPU."""
    if name not in MODELS:
        here = CASES[name].build()
        there = copy.deepcopy(here)
        to_gpu(there)
        MODELS[name] = here, there
    return CASES[name], *MODELS[name]


def encode(case: Case, model: Any, compressor: Any) -> tuple[Any, list[Any]]:
    """A video as `ipcv` itself encodes it."""
    language = find_language(model.config.model_type)
    patches = case.input([case.grid]).to(model.device)
    with compressor(model) if compressor else nullcontext([]) as kept:
        return language.encode(model, patches, case.grid), kept


@pytest.mark.parametrize("name", CASES)
def test_an_uncompressed_pass_waits_for_nothing_of_ours(name):
    case, here, there = family(name)
    want, _ = encode(case, here, None)
    with pretended() as gpu:
        got, _ = encode(case, there, None)
    assert not [wait for wait in gpu.waits if wait.ours]
    assert error(got.tokens.here, want.tokens) < 1e-5


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, settings) for name in CASES for settings in SETTINGS), ("qwen2_vl", "tome")],
)
def test_a_compressed_pass_asks_the_device_once_and_once_for_reuse_and_tells_what_it_kept_for_free(name, settings):
    case, here, there = family(name)
    compressor = (SETTINGS | {"tome": ToMe(keep=0.5)})[settings]
    want, kept = encode(case, here, compressor)
    with pretended() as gpu:
        got, kept_there = encode(case, there, compressor)
        assert [each.tolist() for each in kept_there] == [each.tolist() for each in kept]
    assert [wait.what for wait in gpu.waits if wait.ours] == ["asked"] * (2 if compressor.reuses else 1)
    assert error(got.tokens.here, want.tokens) < 1e-5


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.step > 1])
def test_a_grid_that_comes_on_the_device_is_asked_for_at_the_entrance_as_the_model_does(name):
    case, _, there = family(name)
    with pretended() as gpu, IPCV(keep=0.4, reuse=0)(there):
        frames = [(1, rows, columns) for count, rows, columns in case.several for _ in range(count)]
        patches, grid = case.input(case.several).to(GPU), torch.tensor(frames, device=GPU)
        before = len(gpu.waits)
        there.model.visual(patches, grid_thw=grid)
    waits = gpu.waits[before:]
    assert [wait.what for wait in waits if wait.ours] == ["asked", "asked"]
    assert waits[0].ours
    assert not waits[1].ours


# ------------------------------------------------------------------------------ the pretended GPU notices waiting


ASK = {
    "item": lambda x: x.sum().item(),
    "int": lambda x: int(x.max()),
    "bool": lambda x: bool(x.any()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 1],
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "repeat_interleave": lambda x: x.repeat_interleave(x),
    "bincount": lambda x: x.bincount(),
    "position": lambda x: x[x[0]],
    "loop": lambda x: [1 for _ in range(x[0])],
}
SEND = {
    "tensor": lambda x: torch.tensor([1, 2], device=GPU),
    "new_tensor": lambda x: x.new_tensor([1, 2]),
    "to": lambda x: torch.ones(3).to(GPU),
    "positions": lambda x: x[torch.tensor([0, 1])],
}
GO_ON = {
    "new": lambda x: torch.arange(3, device=GPU) + x.new_zeros(3),
    "known size": lambda x: x.repeat_interleave(x, output_size=6),
    "sort": lambda x: x.sort().indices[:2],
    "positions there": lambda x: x[x - 1],
    "not waited for": lambda x: torch.ones(3).to(GPU, non_blocking=True),
    "on the host": lambda x: torch.ones(3)[torch.ones(3) > 0].tolist(),
}


def waits(operation: Any) -> Pretended:
    with pretended() as gpu:
        x = torch.tensor([1, 2, 3]).to(GPU, non_blocking=True)
        operation(x)
    return gpu


@pytest.mark.parametrize("name", ASK)
def test_a_question_to_the_device_is_noticed(name):
    assert [wait.what for wait in waits(ASK[name]).waits] == ["asked"]


@pytest.mark.parametrize("name", SEND)
def test_a_copy_that_is_waited_for_is_noticed(name):
    assert [wait.what for wait in waits(SEND[name]).waits] == ["sent"]


@pytest.mark.parametrize("name", GO_ON)
def test_what_needs_no_waiting_is_not(name):
    assert waits(GO_ON[name]).waits == []


def test_tensors_of_both_places_are_an_error():
    with pytest.raises(AssertionError, match="both places"):
        waits(lambda x: x + torch.ones(3))


# --------------------------------------------------------------------------------------------------- a real GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_waits_as_often(name, settings, dtype):
    case = CASES[name]
    model = case.build().to("cuda", dtype)
    with torch.no_grad():
        encode(case, model, SETTINGS[settings])
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as noted:
                warnings.simplefilter("always")
                encode(case, model, SETTINGS[settings])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    ours = Path(ipcv.__file__).parent
    assert sum("synchroniz" in str(each.message) for each in noted if Path(each.filename).is_relative_to(ours)) == 1
