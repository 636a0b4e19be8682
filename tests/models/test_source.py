"""A model's address: what it takes, and what it comes to."""

import pytest

import ipcv
from ipcv import ModelSource, Options
from ipcv.encodings import fingerprint
from ipcv.inference.load import load_fitted
from ipcv.models.hub import find_folder

DEMO = ModelSource(name="demo", device="cpu", offline=True)


@pytest.mark.parametrize(("field", "known"), [("dtype", "bfloat16"), ("quant", "4bit")])
def test_an_unknown_value_is_refused_when_the_address_is_made(field, known):
    with pytest.raises(ValueError, match=f"^{field} 'int3' is not known: use auto, .*{known}"):
        ModelSource(name="demo", **{field: "int3"})


def test_it_resolves_to_folder_device_dtype_and_quantisation():
    found = DEMO.resolve()
    assert found.folder == find_folder("demo")
    assert (found.device.type, found.dtype_name, found.quantize, found.quantization) == ("cpu", "float32", None, None)
    assert found.commit is None


def test_it_loads_in_place_of_a_name():
    assert ipcv.load(DEMO).facts == ipcv.load("demo", device="cpu", offline=True).facts


@pytest.mark.parametrize("load", [ipcv.load, ipcv.fit_to_device])
def test_settings_beside_a_whole_address_are_refused(load):
    with pytest.raises(ValueError, match=r"^a ModelSource holds .*quant.* itself: set them there$"):
        load(DEMO, quant="4bit")


def test_loading_alone_cannot_fit():
    with pytest.raises(ValueError, match="use fit_to_device first"):
        ipcv.load(ModelSource(name="demo", fit=True))


def test_a_model_to_come_is_described_as_it_is_once_loaded():
    assert fingerprint.model_to_come(DEMO) == fingerprint.model(ipcv.load(DEMO).facts)


@pytest.mark.parametrize(("quant", "described"), [("auto", "auto"), ("none", None)])
def test_the_quantisation_is_open_only_where_memory_decides(quant, described):
    source = ModelSource(name="demo", device="cpu", offline=True, quant=quant, fit=True)
    assert fingerprint.model_to_come(source)["quantization"] == described


def test_with_fit_the_model_comes_with_lowered_options_and_says_why(monkeypatch):
    monkeypatch.setattr("ipcv.limits.fit.free_memory", lambda _: (90 << 20, "of this test"))
    ready = load_fitted(ModelSource(name="demo", device="cpu", offline=True, fit=True), Options(), batch_size=4)
    assert ready.options.max_visual_tokens < 8192
    assert ready.batch_size <= 4
    assert any("fitted to 0.09 GiB of this test" in warning for warning in ready.model.warnings)


def test_without_fit_options_stay():
    options = Options(frame_batch=6)
    ready = load_fitted(DEMO, options, batch_size=4)
    assert (ready.options, ready.batch_size) == (options, 4)
