"""The options that commands share."""

import inspect
import re
from typing import Any, get_args

import pytest

from ipcv.compression.compressors.ipcv_compressor import IPCV, Stabilizer
from ipcv.compression.compressors.tome import ToMe
from ipcv.compression.pruners.dart import Dart
from ipcv.compression.pruners.fastv import FastV
from ipcv.compression.pruners.v2drop import V2Drop
from ipcv.compression.reducers.dtd import DTD
from ipcv.compression.reducers.evs import EVS
from ipcv.compression.reducers.vidcom2 import VidCom2
from ipcv.inference.load import load
from ipcv.media.sampling import Sampling
from ipcv.options import PIXELS, Options
from ipcv_cli import choices
from ipcv_cli.commands.ask import ask
from ipcv_cli.exit import UsageError

NOTHING: dict[str, Any] = {
    "no_compress": False,
    "method": None,
    "preset": None,
    "quality": None,
    "keep": None,
    "layer": None,
    "stabilize": None,
    "neighbors": None,
    "stabilizer": None,
    "reuse": None,
    "reducer": None,
    "reducer_keep": None,
    "llm_pruner": None,
    "llm_keep": None,
    "llm_layer": None,
}
PLACES = {  # where the library keeps the default of each option that has one
    "fps": Sampling().fps,
    "max_frames": Sampling().max_frames,
    "max_pixels": PIXELS,
    "frame_batch": Options().frame_batch,
    "method": "coverage" if Options().compressor == IPCV() else "",
    "reducer": "none" if Options().reducer is None else "",
    "preset": "balanced" if Options().compressor == IPCV.preset("balanced") else "",
    "keep": IPCV().keep,
    "layer": IPCV().layer,
    "stabilize": IPCV().stabilize,
    "neighbors": IPCV().neighbors,
    "stabilizer": IPCV().stabilizer,
    "reuse": IPCV().reuse,
    "llm_pruner": "none" if Options().pruner is None else "",
    "max_new_tokens": Options().max_new_tokens,
    "temperature": Options().temperature,
    "seed": Options().seed,
}


def test_the_help_repeats_the_defaults_of_the_library():
    parameters = inspect.signature(ask).parameters
    shown = {
        name: found[1]
        for name, parameter in parameters.items()
        if hasattr(parameter.annotation, "__metadata__")
        and (found := re.search(r"\\\[default: ([^\s\]]+)", parameter.annotation.__metadata__[0].help))
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
    settings = Options(sampling=choices.sampling(None, None, None, None), **choices.compression(**NOTHING))
    assert settings == Options()


def test_options_reach_the_settings():
    given = {"keep": 0.5, "layer": 1, "stabilize": "2", "neighbors": 4, "reuse": 0.0, "llm_keep": 0.25, "llm_layer": 2}
    assert choices.compression(**NOTHING | given | {"llm_pruner": "fastv"}) == {
        "compressor": IPCV(keep=0.5, layer=1, stabilize=2, neighbors=4, reuse=0.0),
        "reducer": None,
        "pruner": FastV(keep=0.25, layer=2),
    }
    plain = {"compressor": IPCV(), "reducer": None, "pruner": None}
    assert choices.compression(**NOTHING | {"llm_pruner": "none"}) == plain
    assert choices.compression(**NOTHING | {"llm_pruner": "dart"}) == plain | {"pruner": Dart()}
    assert choices.compression(**NOTHING | {"llm_pruner": "v2drop"}) == plain | {"pruner": V2Drop()}
    assert choices.compression(**NOTHING | {"no_compress": True}) == dict.fromkeys(plain)
    assert choices.sampling(1.5, 8, "1:30", "0:01:40.5") == Sampling(fps=1.5, max_frames=8, start=90, end=100.5)
    assert choices.sampling(None, None, "0", None) == Sampling(start=0)


@pytest.mark.parametrize(
    ("given", "compressor", "reducer"),
    [
        ({"method": "paper", "stabilize": "all"}, IPCV.paper(stabilize="all"), None),
        ({"quality": 0.9}, IPCV(quality=0.9), None),
        ({"preset": "fast"}, IPCV.preset("fast"), None),
        ({"preset": "fast", "method": "coverage"}, IPCV.preset("fast"), None),
        ({"preset": "fast", "keep": 0.3, "reuse": 0.0}, IPCV.preset("fast", keep=0.3, reuse=0.0), None),
        ({"preset": "balanced"}, IPCV(), None),
        ({"stabilizer": "neighbors", "reuse": 0.03}, IPCV(stabilizer="neighbors", reuse=0.03), None),
        ({"method": "tome"}, ToMe(), None),
        ({"method": "tome", "keep": 0.7}, ToMe(keep=0.7), None),
        ({"reducer": "evs"}, IPCV(), EVS()),
        ({"reducer": "evs", "reducer_keep": 0.2}, IPCV(), EVS(keep=0.2)),
        ({"reducer": "vidcom2"}, IPCV(), VidCom2()),
        ({"reducer": "dtd"}, IPCV(), DTD()),
        ({"reducer": "dtd", "reducer_keep": 0.3}, IPCV(), DTD(keep=0.3)),
        ({"reducer": "none"}, IPCV(), None),
    ],
    ids=str,
)
def test_other_methods_can_be_chosen(given, compressor, reducer):
    expected = {"compressor": compressor, "reducer": reducer, "pruner": None}
    assert choices.compression(**NOTHING | given) == expected


def test_the_help_repeats_the_shares_of_the_other_methods():
    parameters = inspect.signature(ask).parameters
    keep, reducer_keep = (parameters[name].annotation.__metadata__[0].help for name in ("keep", "reducer_keep"))
    assert f"(tome: {ToMe().keep})" in keep
    assert (EVS().keep, VidCom2().keep, DTD().keep) == (1 / 2, 1 / 4, None)
    assert "evs keeps half, vidcom2 a quarter, dtd what changes" in reducer_keep
    assert len(V2Drop().keep) == 3
    llm_keep, llm_layer = (parameters[name].annotation.__metadata__[0].help for name in ("llm_keep", "llm_layer"))
    assert (Dart().keep, FastV().keep, Dart.LAYER) == (1 / 2, 1 / 2, 3)
    assert "without, dart and fastv keep half" in llm_keep
    assert "without, 3 (Qwen3.5: 4)" in llm_layer


@pytest.mark.parametrize("name", ["layer", "stabilize", "neighbors", "stabilizer", "reuse"])
def test_merging_has_a_share_and_no_more(name):
    with pytest.raises(UsageError, match=f"^--method tome and --{name} exclude each other"):
        choices.compression(**NOTHING | {"method": "tome", name: "1" if name == "stabilize" else 1})


@pytest.mark.parametrize(
    ("given", "other"),
    [({"method": "tome"}, "--method tome"), ({"method": "paper"}, "--method paper"), ({"quality": 0.9}, "--quality")],
    ids=str,
)
def test_a_preset_has_a_method_and_a_share_of_its_own(given, other):
    with pytest.raises(UsageError, match=f"^--preset fast and {other} exclude each other"):
        choices.compression(**NOTHING | {"preset": "fast"} | given)


def test_the_stabilizers_are_those_of_the_library():
    annotation = get_args(inspect.signature(ask).parameters["stabilizer"].annotation)[0]
    assert get_args(get_args(annotation)[0]) == get_args(Stabilizer)


@pytest.mark.parametrize(("given", "other"), [({"keep": 0.5}, "--keep"), ({"method": "paper"}, "--method paper")])
def test_a_quality_stands_in_place_of_a_share(given, other):
    with pytest.raises(UsageError, match=f"^--quality and {other} exclude each other"):
        choices.compression(**NOTHING | {"quality": 0.9} | given)


@pytest.mark.parametrize("reducer", [None, "none"])
def test_a_share_of_the_prompt_needs_a_method(reducer):
    with pytest.raises(UsageError, match=r"^--reducer-keep says how much --reducer keeps: name one"):
        choices.compression(**NOTHING | {"reducer": reducer, "reducer_keep": 0.5})


@pytest.mark.parametrize("name", ["llm_keep", "llm_layer"])
def test_a_setting_of_a_pruner_needs_one(name):
    option = name.replace("_", "-")
    with pytest.raises(
        UsageError, match=f"^--{option} is a setting of --llm-pruner: name one, as in --llm-pruner dart"
    ):
        choices.compression(**NOTHING | {name: 1})


@pytest.mark.parametrize("name", [name for name in NOTHING if name != "no_compress"])
def test_the_plain_model_has_nothing_to_set(name):
    value = {
        "llm_pruner": "dart",
        "method": "tome",
        "preset": "fast",
        "reducer": "evs",
        "stabilize": "1",
        "stabilizer": "states",
    }.get(name, 1)
    with pytest.raises(UsageError, match=f"^--no-compress and --{name.replace('_', '-')} exclude each other"):
        choices.compression(**NOTHING | {"no_compress": True, name: value})


@pytest.mark.parametrize("pruner", ["none", "v2drop"])
@pytest.mark.parametrize("name", ["llm_keep", "llm_layer"])
def test_no_pruner_and_one_as_published_have_nothing_to_set(name, pruner):
    with pytest.raises(UsageError, match=f"^--llm-pruner {pruner} and --{name.replace('_', '-')} exclude each other"):
        choices.compression(**NOTHING | {"llm_pruner": pruner, name: 1})


@pytest.mark.parametrize(
    "given", [{"keep": 0.0}, {"preset": "fast", "keep": 0.0}, {"llm_pruner": "dart", "llm_keep": 0.0}], ids=str
)
def test_zero_is_a_value_and_not_an_option_left_out(given):
    with pytest.raises(ValueError, match="keep=0"):
        choices.compression(**NOTHING | given)
