"""A model is loaded with as many threads as it has work for."""

import pytest
import torch

from ipcv.inference import load
from ipcv.inference.load import load_fitted
from ipcv.models.source import ModelSource
from ipcv.options import Options


@pytest.fixture
def two_threads(monkeypatch):
    for name in load.THREADS:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_gets_one_thread(two_threads):
    load_fitted(ModelSource(name="demo", device="cpu"), Options())
    assert torch.get_num_threads() == 1


def test_a_larger_model_keeps_them(two_threads, monkeypatch):
    monkeypatch.setattr(load, "SMALL", 1_000_000)
    load_fitted(ModelSource(name="demo", device="cpu"), Options())
    assert torch.get_num_threads() == 2


def test_the_environment_goes_first(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    load_fitted(ModelSource(name="demo", device="cpu"), Options())
    assert torch.get_num_threads() == 2
