"""What a Gemma 3 is given, beside transformers' own processor for it: pixels, text, several videos and images."""

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import tiny_gemma
import torch
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

import ipcv
from ipcv import IPCV, Dart, FastV, Options, TimedFrames
from ipcv.errors import ModelError
from ipcv.families import find_language
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.fit import fit
from ipcv.limits.memory_estimate import Sizes
from ipcv.models.hub import find_folder
from ipcv.models.prompt import check_text
from ipcv.models.source import read_config

QUESTION = "What colour is the circle?\nAnswer in one word."
PLAIN = Options(compressor=None, pruner=None, max_new_tokens=6)
PIXELS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
TOKENS = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
TEMPLATE = (  # as theirs: it knows images, and takes spaces off texts
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Gemma 3 with random weights."""
    path = tmp_path_factory.mktemp("gemma3")
    tokenizer = AutoTokenizer.from_pretrained(find_folder("demo"), extra_special_tokens=TOKENS)
    tokenizer.add_tokens(["\n\n", "<start_of_turn>", "<end_of_turn>"])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    special = {"image_token_id": tokenizer.image_token_id}
    tiny_gemma.gemma3(width=64, words=len(tokenizer), special=special).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return path


@pytest.fixture(scope="module")
def model(folder):
    return ipcv.load(str(folder))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A video, an image and another video, all of the model's size, and their pictures."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "frame.png"
    Image.fromarray(pictures[3]).save(path)
    return [TimedFrames(pictures[:3], [1.5, 2.04, 63.0]), path, TimedFrames(pictures[4:], [0.0, 0.333])], pictures


def processed(model, pictures):
    """What transformers' processor makes of them, with the times of frames as text."""
    tokenizer = model.loaded.tokenizer
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 32, "width": 32}, **PIXELS), tokenizer, image_seq_length=16
    )
    texts = ["Frame 1.50:", "Frame 2.04:", "Frame 63.00:", None, "Frame 0.00:", "Frame 0.33:"]
    parts = [[{"type": "text", "text": text}, {"type": "image"}][text is None :] for text in texts]
    content = [*chain.from_iterable(parts), {"type": "text", "text": QUESTION}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(images=[list(pictures)], text=[rendered], add_special_tokens=False, return_tensors="pt")


@torch.no_grad()
def started(model, parts, options):
    """A prompt, and that prompt in its cache."""
    pipeline, encoded = Pipeline(model.loaded, options), [model.encode(each, options) for each in parts]
    with pipeline.pruned():
        return pipeline.prompt(encoded, QUESTION), pipeline.prefill(encoded, QUESTION, pipeline.clock()).decoding


@torch.no_grad()
def test_videos_and_images_are_passed_as_transformers_passes_their_pictures(model, inputs):
    parts, pictures = inputs
    want = processed(model, pictures)
    prompt, decoding = started(model, parts, PLAIN)
    assert prompt.ids.tolist() == want["input_ids"].tolist()
    assert prompt.types.tolist() == want["token_type_ids"].tolist()
    logits = model.loaded.network(**want).logits[:, -1]
    torch.testing.assert_close(decoding.logits, logits, atol=1e-3, rtol=1e-3)


def test_each_has_its_own_frames_and_kept_tokens(model, inputs):
    options = replace(PLAIN, compressor=IPCV(keep=0.5), pruner=Dart(keep=0.5), reducer=ipcv.EVS(keep=0.7))
    answer = model.ask(inputs[0], QUESTION, options)
    assert [(each.kind, each.frames.times) for each in answer.videos] == [
        ("video", (1.5, 2.04, 63.0)),
        ("image", (0.0,)),
        ("video", (0.0, 0.333)),
    ]
    for each, alone in zip(answer.videos, inputs[0], strict=True):
        assert model.ask(alone, QUESTION, options).videos == (each,)
        assert each.patches_computed == each.patches // 2


def test_pixels_equal_the_familys_image_processor(model, inputs):
    want = processed(model, inputs[1])["pixel_values"]
    pixels, grid = model.loaded.patches.patchify(torch.from_numpy(inputs[1]))
    assert grid == (6, 8, 8)
    torch.testing.assert_close(pixels, want, rtol=0, atol=1e-6)


def test_frames_are_all_of_one_size(model):
    settings = model.loaded.patches
    assert settings.resize(1080, 1920, 64) == (32, 32)
    assert settings.factor == 8
    with pytest.raises(ValueError, match="max_pixels must be 1024 or more, not 1000"):
        settings.limited(1000)


def test_a_budget_of_visual_tokens_is_met_with_fewer_frames(model, inputs):
    answer = model.ask(inputs[0][0], QUESTION, replace(PLAIN, max_visual_tokens=40))
    assert answer.frames.visual_tokens == 32
    assert [each.what for each in answer.videos[0].budget.lowered] == ["frames"]


def test_settings_are_fitted_to_memory(folder, model):
    config = read_config(folder)
    sizes = Sizes.of(folder, config)
    linears = model.loaded.network.get_decoder().layers.parameters()
    assert sizes.linear == sum(weights.numel() for weights in linears if weights.ndim == 2)
    assert sizes.plain + sizes.linear == model.facts.parameters
    found = fit(2**30, sizes, Options(), model.loaded.patches, 4, ["none", "4bit"])
    assert (found.options, found.quant) == (Options(), "none")
    sizes = replace(sizes, picture=0)
    unlimited, tokens = replace(sizes, text=replace(sizes.text, windows=())), 50
    more = unlimited.prompting(4, tokens) - sizes.prompting(4, tokens)
    assert more == 2 * (tokens - config.text_config.sliding_window + 1) * 2 * sizes.text.key_width * 4  # in two layers


def test_line_breaks_are_text_though_the_vocabulary_has_them_added(model):
    check_text(model.loaded.tokenizer, "First.\n\nSecond?")
    with pytest.raises(ValueError, match="'<start_of_image>', which the model reads as a control token"):
        check_text(model.loaded.tokenizer, "What is <start_of_image>?")


def test_fastv_behind_a_layer_with_a_window_is_refused_before_anything_is_read(model):
    with pytest.raises(ValueError, match=r"FastV layer=3 .* last 20 tokens only: use layer 1, 2, 4, or another pruner"):
        model.ask("no-such-file.mp4", QUESTION, replace(PLAIN, pruner=FastV()))


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("vision_config", "model_type", "clip_vision_model", "an encoder of type 'clip_vision_model'"),
        ("text_config", "use_bidirectional_attention", True, "text that attends both ways"),
    ],
)
def test_another_encoder_or_language_model_is_refused(folder, part, name, value, message):
    config = read_config(folder)
    setattr(getattr(config, part), name, value)
    with pytest.raises(ModelError, match=message):
        find_language("gemma3").settings(folder, config)


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("gemma3_text", "this size has no vision encoder"),
        ("gemma3n", "its vision encoder is made of convolutions"),
        ("gemma4", "its encoder's positions, and decoder layers"),
        ("gemma4_unified", "it has no vision encoder"),
    ],
)
def test_other_gemmas_are_refused_by_name_with_the_reason(family, why, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(ModelError, match=rf"'{family}' is not supported: {why}.*; supported: .*gemma3, "):
        ipcv.load(str(tmp_path))
