"""What holds for every registered method, on the demo model."""

from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any, Literal, get_origin

import pytest
from pydantic import TypeAdapter

from ipcv import IPCV, Options
from ipcv.compression import registry

QUESTION = "What colour is the circle?"
PLAIN = Options(compressor=None, reducer=None, pruner=None)


WITH_SHARE = [name for name in registry.METHODS if "keep" in registry.settings_of(name)]


def with_method(name: str, **settings: Any) -> Options:
    changes: dict[str, Any] = {registry.place_of(name): registry.maker(name)(**settings)}
    if getattr(registry.method_class(name), "needs_reuse", False):
        changes["compressor"] = IPCV(keep=1, reuse=0.9, cut=1.0)
    return replace(PLAIN, **changes)


def keep_all(name: str) -> dict[str, Any]:
    """Settings with which a method keeps every token."""
    known = registry.settings_of(name)
    if get_origin(known["keep"]) is not tuple:
        return {"keep": 1} | ({"reuse": 0.0} if "reuse" in known else {})
    return {"keep": (1.0,) * len(registry.maker(name)().keep)}  # a share per step


@pytest.fixture(scope="module")
def plain(demo, clip):
    return demo.ask(clip, QUESTION, PLAIN)


@pytest.mark.parametrize("name", registry.METHODS)
def test_it_saves_work_and_leaves_the_model_as_it_was(name, demo, clip, plain):
    options = with_method(name)
    answer = demo.ask(clip, QUESTION, options)
    assert answer.answer
    assert answer.settings == options or registry.place_of(name) == "pruner"  # which may settle its layer
    assert answer.savings.total_flops < 1
    network = demo.loaded.network
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    assert not any("forward" in vars(each) for each in network.modules())
    again = demo.ask(clip, QUESTION, PLAIN)
    assert (again.answer, again.savings) == (plain.answer, plain.savings)


@pytest.mark.parametrize("name", WITH_SHARE)
def test_keeping_every_token_is_the_plain_model(name, demo, clip, plain):
    answer = demo.ask(clip, QUESTION, with_method(name, **keep_all(name)))
    assert answer.answer == plain.answer
    assert answer.savings.total_flops == 1


@pytest.mark.parametrize("name", registry.METHODS)
def test_an_exception_leaves_the_model_as_it_was(name, demo):
    method, network = registry.maker(name)(), demo.loaded.network
    with (
        pytest.raises(RuntimeError, match="in between"),
        nullcontext() if method.place == "reducer" else method(network),
    ):
        raise RuntimeError("in between")
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    assert not any("forward" in vars(each) for each in network.modules())


@pytest.mark.parametrize("name", registry.METHODS)
def test_its_settings_are_in_json(name):
    options = with_method(name)
    written = TypeAdapter(Options).dump_python(options, mode="json")[registry.place_of(name)]
    assert written.keys() - {"method"} == registry.settings_of(name).keys()
    assert written.get("method", name) == name


@pytest.mark.parametrize("method", [each for place in registry.PLACES for each in registry.classes(place)])
def test_its_field_method_repeats_its_name(method):
    found = [(each.type, each.default, each.init) for each in fields(method) if each.name == "method"]
    assert found == ([] if method is IPCV else [(Literal[method.name], method.name, False)])  # its fields tell IPCV


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
@pytest.mark.parametrize("name", WITH_SHARE)
def test_a_keep_that_is_no_share_is_refused(name, keep):
    several = get_origin(registry.settings_of(name)["keep"]) is tuple
    if several and keep == 0:
        return  # of several steps the last may keep one token only
    with pytest.raises(ValueError, match="keep="):
        registry.maker(name)(keep=(keep,) * 3 if several else keep)
