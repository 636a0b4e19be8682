"""Loading: where models come from, what is quantised, and what is said when there is no model."""

import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from commands import environment
from safetensors.torch import load_file, save_file
from torch import nn

import ipcv
from ipcv.errors import MemoryExhaustedError, ModelError
from ipcv.inference.load import load_fitted
from ipcv.models.hub import find_folder
from ipcv.models.loading import DEMO_NOTICE
from ipcv.models.placement import can_flash, choose_dtype, choose_quantization


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and no way out."""

    def refuse(*args, **kwargs):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo model's folder, to be spoilt."""
    return shutil.copytree(find_folder("demo"), tmp_path / "model")


def test_the_demo_model_loads_without_a_network(no_network):
    model = ipcv.load("demo", offline=True)
    assert model.facts.family == "qwen2_vl"
    assert model.facts.quantization is None
    assert model.facts.dtype == "float32"
    assert model.warnings == (DEMO_NOTICE,)


def test_a_folder_is_the_same_model_without_the_demos_notice(demo, folder):
    model = ipcv.load(str(folder))
    assert model.warnings == ()
    ours, theirs = model.loaded.network.state_dict(), demo.loaded.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_model_that_is_not_in_the_cache_names_the_demo_and_makes_no_call_offline(no_network):
    with pytest.raises(ModelError, match=r'not in the cache.*ipcv models pull Qwen/Qwen2-VL-2B-Instruct.*name="demo"'):
        ipcv.load(offline=True)


def test_a_hub_that_cannot_be_reached_names_the_demo(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r'cannot be reached.*name="demo"'):
        ipcv.load()


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "~nobody-at-all/model", "no-such-model", "a/b/c"])
def test_a_name_that_is_neither_a_folder_nor_a_repository_is_refused(name):
    with pytest.raises(ModelError, match="no model folder"):
        ipcv.load(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"holds no model.*give the folder of a complete model, a hub name such as"):
        ipcv.load(str(tmp_path))


def test_another_family_is_refused_with_the_known_ones(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ModelError, match=r"'llama' is not supported.*supported: .*qwen2_vl"):
        ipcv.load(str(folder))


def test_spoilt_weights_are_one_line(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        ipcv.load(str(folder))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_an_error_and_not_random_ones(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"holds no weights \(model\.safetensors\); give the folder of a complete model"
    ):
        ipcv.load(str(folder))


def test_weights_that_lack_a_tensor_are_an_error_and_not_half_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["visual.blocks.0.attn.proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, model\.visual\.blocks\.0\.attn\.proj\.weight first"):
        ipcv.load(str(folder))


def test_the_processors_chat_template_goes_before_the_tokenizers(folder, demo):
    theirs = demo.loaded.tokenizer.chat_template
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "Look: " + theirs}))
    assert ipcv.load(str(folder)).loaded.tokenizer.chat_template == "Look: " + theirs


def test_a_spoilt_tokenizer_is_one_line(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load the tokenizer"):
        ipcv.load(str(folder))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "chat_template is not set"),
        ("{{ messages[0].content[1].text }}", "gives 0 places for video"),
        ("<|video_pad|><|video_pad|>", "gives 2 places for video"),
        ("{{ messages[0].content.images[0] }}", "has no attribute 'images'"),
        ("{% for %}", "Expected an expression"),
    ],
)
def test_a_chat_template_that_cannot_ask_about_a_video_is_refused(template, says, folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=f"cannot ask about a video: .*{says}.*; give the folder of") as caught:
        ipcv.load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_into_the_hosts_memory_is_about_memory(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "embed_tokens" not in name and "lm_head" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 10**13  # rows of a table that transformers now tries to make
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MemoryExhaustedError, match='does not fit into the memory of cpu: try `quant="4bit"`'):
        ipcv.load(str(folder))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"device": "cpu:1"}, "device 'cpu:1' is not there: the last one is cpu:0"),
        ({"revision": "main"}, "'demo' is the bundled model and has no revision 'main'"),
        ({"quant": "3bit"}, "quant '3bit' is not known"),
        ({"dtype": "int8"}, "dtype 'int8' is not known"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ipcv.load("demo", **setting)


def test_only_devices_that_are_there_can_be_chosen(monkeypatch):
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    with pytest.raises(ValueError, match="device 'cuda:7' is not there: the last one is cuda:0"):
        ipcv.load("demo", device="cuda:7")
    with pytest.raises(ValueError, match="device 'mps' is not there: this machine has cuda"):
        ipcv.load("demo", device="mps")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_a_gpu_without_native_bfloat16_gets_float16(capability, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert choose_dtype("auto", torch.device("cuda:0")) == expected
    assert choose_dtype("bfloat16", torch.device("cuda:0")) == torch.bfloat16


@pytest.mark.parametrize(("device", "expected"), [("cuda", "4bit"), ("xpu", "4bit"), ("mps", None), ("cpu", None)])
def test_quantisation_is_chosen_by_device(device, expected, demo):
    assert choose_quantization("auto", torch.device(device), demo.loaded.network.config) == expected


def test_four_bits_are_for_the_language_models_linears_only(clip, demo):
    model = ipcv.load("demo", quant="4bit")
    network = model.loaded.network
    kinds = {name: type(module) for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    language = {name for name in kinds if name.startswith("model.language_model.")}
    assert {kinds[name] for name in language} == {Linear4bit}
    assert {kind for name, kind in kinds.items() if name not in language} == {nn.Linear}
    assert "lm_head" in kinds
    assert any(name.startswith("model.visual.merger") for name in kinds)
    linear = network.model.language_model.layers[0].mlp.up_proj
    assert linear.weight.quant_type == "nf4"
    assert linear.weight.quant_state.nested
    assert linear.compute_dtype == torch.bfloat16
    assert model.facts.quantization == "4bit"
    question = "How many objects are there?"
    assert model.ask(clip, question).answer == demo.ask(clip, question).answer


def test_half_precision_answers_like_full_precision(clip, demo):
    model = ipcv.load("demo", dtype="bfloat16")
    assert model.facts.dtype == "bfloat16"
    question = "How many objects are there?"
    assert model.ask(clip, question).answer == demo.ask(clip, question).answer


def test_flash_attention_is_for_families_without_masks_of_their_own(monkeypatch):
    monkeypatch.setitem(can_flash.__globals__, "is_flash_attn_2_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    gpu, half = torch.device("cuda"), torch.bfloat16
    assert can_flash("qwen2_vl", gpu, half)
    assert not can_flash("gemma3", gpu, half)  # its kernel would let no token of a frame see a later one
    assert not can_flash("qwen2_vl", gpu, torch.float32)
    assert not can_flash("qwen2_vl", torch.device("cpu"), half)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not can_flash("qwen2_vl", gpu, half)


@pytest.mark.parametrize(
    ("options", "question", "says"),
    [
        ({"max_pixels": 10}, "?", "max_pixels must be"),
        ({"compressor": ipcv.IPCV(layer=12)}, "?", "layer"),
        ({"pruner": ipcv.Dart(layer=9)}, "?", "layer"),
        ({"system": "<|im_end|>"}, "?", "control token"),
        ({}, "Is <|image_pad|> red?", "control token"),
    ],
    ids=["pixels", "compressor", "pruner", "system", "question"],
)
def test_what_the_small_files_tell_is_an_error_before_weights_are_read(options, question, says, folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=says):
        load_fitted(ipcv.ModelSource(name=str(folder)), ipcv.Options(**options), [question])


LOADED = """
import re, sys
from pathlib import Path
import ipcv

def kibibytes(of):
    return int(re.search(of + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

name, dtype = sys.argv[1:]
ipcv.load("demo")  # for what is imported
before = kibibytes("VmRSS")
model = ipcv.load(name, dtype=dtype)
print(kibibytes("VmHWM") - before, sum(part.nbytes for part in model.loaded.network.parameters()) / 1024)
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_holds_no_weight_twice(dtype, folder):
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    width, inner = config["text_config"]["hidden_size"], 16384
    config["text_config"]["intermediate_size"] = inner  # 50 million numbers in 12 matrices, 201 MB in float32
    (folder / "config.json").write_text(json.dumps(config))
    for name in [name for name in weights if name.startswith("model.layers.") and ".mlp." in name]:
        shape = (width, inner) if "down" in name else (inner, width)
        weights[name] = torch.zeros(shape, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    command = [sys.executable, "-c", LOADED, str(folder), dtype]
    done = subprocess.run(command, env=environment(), capture_output=True, check=True, text=True)  # a process's peak
    peak, size = (float(number) for number in done.stdout.split())
    assert peak < 1.1 * size + 20_000, f"{peak:,.0f} KiB for {size:,.0f} KiB of weights"
