"""`import ipcv`: its names, and what it costs to import it."""

import importlib
import subprocess
import sys

import pytest

import ipcv


@pytest.mark.parametrize("name", ipcv.__all__)
def test_every_public_name_is_there_and_its_own(name):
    found = getattr(ipcv, name)
    assert name in dir(ipcv)
    assert getattr(found, "__name__", name) == name or name == "Event"  # which is a union


def test_a_module_does_not_take_the_place_of_a_name():
    for module in sys.modules.copy():
        parent, _, name = module.rpartition(".")
        assert parent != "ipcv" or name not in ipcv.__all__


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ipcv' has no attribute 'lood'"):
        importlib.import_module("ipcv").lood  # noqa: B018


def test_importing_it_brings_no_torch_along():
    code = "import sys, ipcv, ipcv.errors, ipcv.models.hub; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert not {"torch", "transformers", "av"} & set(done.stdout.split())


def test_options_and_answers_bring_no_torch_along():
    code = "import sys, ipcv.options, ipcv.answer, ipcv_cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert not {"torch", "transformers", "av"} & set(done.stdout.split())
