"""Folders that strangers made: nothing in them runs, nothing outside them is read, and every refusal is one line."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import family_folders
import pytest
import tiny
from commands import environment
from safetensors.torch import load_file, save_file

import ipcv
from ipcv.errors import ModelError, error_kind
from ipcv.families import find_language
from ipcv.models.guard.template import render
from ipcv.models.hub import find_folder
from ipcv.models.prompt import build_prompt

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import {base}
class Evil({base}):
    model_type = "evil"
"""
CLASSES = {
    "AutoConfig": "PretrainedConfig",
    "AutoModelForImageTextToText": "PreTrainedModel",
    "AutoModel": "PreTrainedModel",
    "AutoProcessor": "ProcessorMixin",
    "AutoTokenizer": "PreTrainedTokenizerFast",
}
LOOP = "{%% for %s in range(99999) %%}"
LOOPS = "".join(LOOP % name for name in "abc") + "{% endfor %}" * 3


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo model's folder, to be spoilt."""
    return shutil.copytree(find_folder("demo"), tmp_path / "model")


def change(path: Path, **values: object) -> None:
    """Set `values` in a JSON file, which need not be there."""
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(old | values))


def set_template(folder: Path, template: str) -> None:
    change(folder / "tokenizer_config.json", chat_template=template)


def plant(folder: Path, name: str) -> Path:
    """Put code into `folder` that the settings name in every place there is, and return the file that it would make."""
    marker = folder.parent / "marker"
    (folder / "evil.py").write_text(CODE.format(marker=str(marker), base=CLASSES[name]))
    maps = {name: ["evil.Evil", "evil.Evil"] if name == "AutoTokenizer" else "evil.Evil"}
    for file in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        change(folder / file, auto_map=maps)
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part]["auto_map"] = maps
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "evil.py", folder / "custom_generate" / "generate.py")
    return marker


def asked(folder: Path, clip: Path) -> subprocess.CompletedProcess[str]:
    """Ask the model in `folder`, with a y for whoever reads stdin."""
    command = [sys.executable, "-m", "ipcv_cli", "ask", str(clip), "Is it red?", "-m", str(folder)]
    return subprocess.run(
        command, env=environment(), input="y\ny\ny\n", capture_output=True, encoding="utf-8", timeout=120
    )


def test_code_in_a_folder_does_not_run_though_stdin_says_yes(folder, clip):
    marker = plant(folder, "AutoModelForImageTextToText")
    done = asked(folder, clip)
    assert done.returncode == 0
    assert "not run" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("name", CLASSES)
def test_code_runs_for_no_class_that_settings_name(name, folder, monkeypatch):
    marker = plant(folder, name)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers reads stdin with
    assert any("code of its own, which is not run" in warning for warning in ipcv.load(str(folder)).warnings)
    change(folder / "config.json", model_type="evil")
    with pytest.raises(ModelError, match="'evil' is not supported"):
        ipcv.load(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["AutoProcessor", "AutoModel", "pipeline", "BertJapaneseTokenizer", 5])
def test_a_tokenizer_class_that_is_no_plain_tokenizer_is_refused(name, folder, monkeypatch):
    marker = plant(folder, "AutoProcessor")
    change(folder / "tokenizer_config.json", tokenizer_class=name)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match=f"names {name!r} as its tokenizer"):
        ipcv.load(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize(
    "kernel", ["kernels-community/flash-attn2", "stranger/kernel@main:evil", {"": "stranger/kernel"}]
)
def test_a_kernel_that_the_configuration_names_is_not_fetched(key, kernel, folder):
    change(folder / "config.json", **{key: kernel})
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"][key] = kernel
    (folder / "config.json").write_text(json.dumps(config))
    model = ipcv.load(str(folder))
    assert model.facts.attention == "sdpa"
    assert model.loaded.network.config.vision_config._attn_implementation == "sdpa"
    assert any("is code from the hub" in warning for warning in model.warnings) == isinstance(kernel, str)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00002.bin"])
def test_pickled_weights_are_refused_by_name(name, folder):
    (folder / "model.safetensors").unlink()
    marker = folder.parent / "marker"
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    says = f"holds its weights as {name}, a pickle, which can run code and is not read: give a folder"
    with pytest.raises(ModelError, match=says) as caught:
        ipcv.load(str(folder))
    assert error_kind(caught.value) == "model"  # exit code 5
    assert not marker.exists()


def test_pickles_beside_weights_are_not_looked_at(folder):
    (folder / "training_args.bin").write_bytes(pickle.dumps(Payload(folder.parent / "marker")))
    ipcv.load(str(folder))
    assert not (folder.parent / "marker").exists()


def test_a_configuration_cannot_choose_the_file_of_the_weights(folder):
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(folder.parent / "marker")))
    change(folder / "config.json", transformers_weights="adapter_model.bin")
    ipcv.load(str(folder))
    assert not (folder.parent / "marker").exists()


def test_an_adapter_is_refused(folder, tmp_path):
    change(folder / "adapter_config.json", base_model_name_or_path=str(tmp_path), peft_type="LORA")
    with pytest.raises(ModelError, match=r"holds an adapter .*merge it into its model"):
        ipcv.load(str(folder))


@pytest.mark.parametrize("name", ["../other.safetensors", "{outside}", "deeper/other.safetensors", "other.bin"])
def test_an_index_names_weights_of_its_own_folder_only(name, folder, tmp_path):
    outside = tmp_path / "other.safetensors"
    (folder / "model.safetensors").rename(outside)
    name = name.format(outside=outside)
    weights = dict.fromkeys(load_file(outside), name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    with pytest.raises(ModelError, match=r"index\.json names .*, which is not a \.safetensors file of that folder"):
        ipcv.load(str(folder))


def test_weights_in_several_files_of_the_folder_are_read(folder, demo):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {}
    for number, part in enumerate((sorted(weights)[::2], sorted(weights)[1::2])):
        save_file({key: weights[key] for key in part}, folder / f"part{number}.safetensors", metadata={"format": "pt"})
        names |= dict.fromkeys(part, f"part{number}.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert ipcv.load(str(folder)).facts.parameters == demo.facts.parameters


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_link_out_of_the_folder_is_refused(name, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(ModelError, match=f"{name} leads out of the model's folder, to .*outside"):
        ipcv.load(str(folder))


def test_links_of_the_hubs_cache_to_its_blobs_are_followed(folder, tmp_path, demo):
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        file.rename(blobs / file.stem)
        (snapshot / file.name).symlink_to(os.path.relpath(blobs / file.stem, snapshot))
    assert ipcv.load(str(snapshot)).facts.parameters == demo.facts.parameters


@pytest.mark.parametrize("name", ["chat_template.jinja", "generation_config.json", "added_tokens.json"])
def test_what_is_no_ordinary_file_is_refused(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)  # reading it would never end
    with pytest.raises(ModelError, match=f"{name} is no ordinary file"):
        ipcv.load(str(folder))


def test_a_file_of_settings_has_a_largest_size(folder):
    with (folder / "chat_template.jinja").open("wb") as file:
        file.truncate(10**12)  # it has no blocks on the disk
    with pytest.raises(ModelError, match=r"chat_template\.jinja has 1,000,000 MB, too much for settings"):
        ipcv.load(str(folder))


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "fast_tokenizer_files", "init_inputs"])
def test_settings_of_a_tokenizer_name_no_file_elsewhere(key, folder, tmp_path):
    outside = tmp_path / "tokenizer.json"
    shutil.copy(folder / "tokenizer.json", outside)
    for text in (str(outside), "../tokenizer.json"):
        change(folder / "tokenizer_config.json", **{key: [text] if key.endswith("s") else text})
        with pytest.raises(ModelError, match="names a file outside its folder"):
            ipcv.load(str(folder))


DEEP = "[" * 900 + "]" * 900
SENSELESS = ["[" * 100_000, '{"a":' * 100_000, f'{{"model_type": "qwen2_vl", "a": {DEEP}}}', "[]", "5", "\xff"]


def refusal(folder: Path) -> str:
    """Why the model in `folder` is not loaded; "" if it is."""
    try:
        ipcv.load(str(folder))
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("text", SENSELESS, ids=lambda text: f"{text:.5} {len(text)}")
@pytest.mark.parametrize("name", ["config", "tokenizer_config", "preprocessor_config", "model.safetensors.index"])
def test_settings_that_make_no_sense_are_one_line(name, text, folder):
    if name.endswith("index"):
        (folder / "model.safetensors").unlink()
    (folder / f"{name}.json").write_text(text, encoding="latin-1")
    said = refusal(folder)
    assert name in said or "weights" in said
    assert "\n" not in said


@pytest.mark.parametrize("text", SENSELESS, ids=lambda text: f"{text:.5} {len(text)}")
@pytest.mark.parametrize("name", ["generation_config", "tokenizer", "special_tokens_map", "chat_template"])
def test_settings_that_libraries_read_are_one_line_if_they_make_no_sense(name, text, folder):
    (folder / f"{name}.json").write_text(text, encoding="latin-1")
    said = refusal(folder)
    assert "\n" not in said
    assert said or name in ("generation_config", "special_tokens_map")  # of which transformers may do without


WRONG = [
    {"vision_config": 5},
    {"text_config": []},
    {"model_type": ["qwen2_vl"]},
    {"__class__": "x"},
    {"quantization_config": []},
    {"num_labels": 10**12},
    {"vision_config": {"model_type": "qwen2_vl", "depth": 10**12}},
    {"text_config": {"model_type": "qwen2_vl_text", "num_hidden_layers": 1e12}},
]


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_a_configuration_that_makes_no_sense_is_one_line(values, folder):
    change(folder / "config.json", **values)
    said = refusal(folder)
    assert said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"eos_token_id": "x"}, "eos_token_id is 'x'"),
        ({"eos_token_id": [1, {}]}, r"eos_token_id is \[1, {}\]"),
        ({"repetition_penalty": "high"}, "repetition_penalty is 'high'"),
        ({"repetition_penalty": -1}, "repetition_penalty is -1"),
        ({"max_new_tokens": -3, "custom_generate": "x", "cache_implementation": "x"}, None),
    ],
)
def test_of_the_settings_of_generation_only_those_are_read_that_answers_go_by(values, says, folder):
    change(folder / "generation_config.json", **values)
    said = refusal(folder)
    assert re.search(says, said) if says else not said


def test_a_configuration_with_other_shapes_than_the_weights_is_told_so(folder):
    config = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", vision_config=config["vision_config"] | {"patch_size": 7})
    assert refusal(folder).endswith("have other shapes than its config.json says: fetch the model again")


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**12) %}{% endfor %}",
        LOOPS,
        "{{ 'x' * 10**10 }}",
        "{{ 9**9**9 }}",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'x'|center(10**9) }}",
        "{{ 'x' * 10**7 }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ dict.mro() }}",
        "{{ namespace.__globals__ }}",
    ],
)
def test_a_template_that_is_a_trap_is_refused_in_bounded_time(template, folder):
    set_template(folder, template + "{{ messages[0].content[0].text }}<|video_pad|>")
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"the chat template in .* cannot ask about a video: ") as caught:
        ipcv.load(str(folder))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 60


def test_a_template_that_turns_bad_later_ends_as_well(folder):
    plain = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    set_template(folder, "{% if messages[0].content[-1].text == 'Go' %}" + LOOPS + "{% endif %}" + plain)
    model = ipcv.load(str(folder))
    prompt = [model.loaded.tokenizer, model.loaded.network.config]
    with pytest.raises(ValueError, match="it takes too long"):
        build_prompt(*prompt, "Go", [tiny.shown("video", 4)])
    assert build_prompt(*prompt, "Stay", [tiny.shown("video", 4)]).ids.numel() > 4


FORMS = """{%- set ns = namespace(found=false, names=dict(a=1)) -%}
{% for message in messages %}
    {% if loop.index0 > 5 %}{% break %}{% endif %}
    {% generation %}{{ message.content | tojson }}{% endgeneration %}
    {% set ns.found = true %}
{% endfor %}
{{ ns.found }} {{ ns.names }} {{ eos_token }} {{ tools is none }} {{ missing }} {{ messages | tojson(indent=2) }}
"""


def test_templates_are_rendered_as_transformers_renders_them(tmp_path):
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Is 5 < 6 & «ä»? \ud83d"}]}]
    templates = {None, FORMS, *(find_language(family).chat_template for family in family_folders.CASES)}
    tokenizer = tiny.tokenizer([], {})
    for template in templates:
        given = {"add_generation_prompt": True, "add_vision_id": True}
        theirs = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **given)
        assert render(tokenizer, messages, template, **given) == theirs


def test_a_template_is_rendered_under_the_limits_that_there_are_already(folder):
    code = (
        "import resource, sys, ipcv\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (500, 500))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))\n"
        "print(ipcv.load(sys.argv[1]).facts.family)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.stdout == "qwen2_vl\n"


def test_weights_that_cannot_be_read_are_one_line_with_fit_as_well(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"cannot load the model .*: model\.safetensors: "):
        ipcv.fit_to_device(str(folder))
