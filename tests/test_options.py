"""The options that commands share."""

import inspect
import re
from typing import Any

import pytest

from ipcv.answer import Options
from ipcv.compressor import IPCV
from ipcv.llm import Dart, FastV
from ipcv.qa import PIXELS, load
from ipcv.sampling import Sampling
from ipcv_cli import options
from ipcv_cli.ask import ask
from ipcv_cli.failure import UsageError

NOTHING: dict[str, Any] = {
    "no_compress": False,
    "keep": None,
    "layer": None,
    "stabilize": None,
    "neighbors": None,
    "llm_pruner": None,
    "llm_keep": None,
    "llm_layer": None,
}
PLACES = {  # where the library keeps the default of each option that has one
    "fps": Sampling().fps,
    "max_frames": Sampling().max_frames,
    "max_pixels": PIXELS,
    "frame_batch": Options().frame_batch,
    "keep": IPCV().keep,
    "layer": IPCV().layer,
    "stabilize": IPCV().stabilize,
    "neighbors": IPCV().neighbors,
    "llm_pruner": "dart" if isinstance(Options().pruner, Dart) else "",
    "llm_keep": Dart().keep,
    "llm_layer": Dart().layer,
    "max_new_tokens": Options().max_new_tokens,
    "temperature": Options().temperature,
    "seed": Options().seed,
}


def test_the_help_repeats_the_defaults_of_the_library():
    parameters = inspect.signature(ask).parameters
    shown = {
        name: found[1]
        for name, parameter in parameters.items()
        if (found := re.search(r"\\\[default: ([^\s\]]+)", parameter.annotation.__metadata__[0].help))
    }
    assert shown.keys() == PLACES.keys()
    assert {name: type(PLACES[name])(text) for name, text in shown.items()} == PLACES
    assert all(parameters[name].default is None for name in shown)


def test_the_defaults_of_loading_are_those_of_the_library():
    library, command = inspect.signature(load).parameters, inspect.signature(ask).parameters
    assert command["model"].default == library["name"].default
    for name in ("revision", "device", "dtype", "quant", "offline"):
        assert command[name].default == library[name].default


def test_without_options_everything_is_as_in_the_library():
    settings = Options(sampling=options.sampling(None, None, None, None), **options.compression(**NOTHING))
    assert settings == Options()


def test_options_reach_the_settings():
    given = {"keep": 0.5, "layer": 1, "stabilize": 2, "neighbors": 4, "llm_keep": 0.25, "llm_layer": 2}
    assert options.compression(**NOTHING | given | {"llm_pruner": "fastv"}) == {
        "compressor": IPCV(keep=0.5, layer=1, stabilize=2, neighbors=4),
        "pruner": FastV(keep=0.25, layer=2),
    }
    assert options.compression(**NOTHING | {"llm_pruner": "none"}) == {"compressor": IPCV(), "pruner": None}
    assert options.compression(**NOTHING | {"no_compress": True}) == {"compressor": None, "pruner": None}
    assert options.sampling(1.5, 8, "1:30", "0:01:40.5") == Sampling(fps=1.5, max_frames=8, start=90, end=100.5)
    assert options.sampling(None, None, "0", None) == Sampling(start=0)


@pytest.mark.parametrize("name", ["keep", "layer", "stabilize", "neighbors", "llm_pruner", "llm_keep", "llm_layer"])
def test_the_plain_model_has_nothing_to_set(name):
    value = "dart" if name == "llm_pruner" else 1
    with pytest.raises(UsageError, match=f"^--no-compress and --{name.replace('_', '-')} exclude each other"):
        options.compression(**NOTHING | {"no_compress": True, name: value})


@pytest.mark.parametrize("name", ["llm_keep", "llm_layer"])
def test_no_pruner_has_nothing_to_set(name):
    with pytest.raises(UsageError, match=f"^--llm-pruner none and --{name.replace('_', '-')} exclude each other"):
        options.compression(**NOTHING | {"llm_pruner": "none", name: 1})


@pytest.mark.parametrize("name", ["keep", "llm_keep"])
def test_zero_is_a_value_and_not_an_option_left_out(name):
    with pytest.raises(ValueError, match="keep=0"):
        options.compression(**NOTHING | {name: 0.0})
