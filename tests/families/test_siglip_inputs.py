"""Pixels, prompts and limits of the families with a SigLIP encoder, beside transformers' own processors."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_siglip
import torch
from num2words import num2words
from transformers import AutoTokenizer, CLIPVisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, SmolVLMProcessor

from ipcv.architecture.visual import Visual
from ipcv.errors import ModelError
from ipcv.families import find_encoder, find_language, smolvlm
from ipcv.inference.generate import prefill
from ipcv.limits.extent import Extent
from ipcv.models.hub import find_folder
from ipcv.models.prompt import TEXT, VIDEO, build_prompt

STILL: dict[str, Any] = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.125]}
QUESTION = "What colour is the circle?"
LLAVA = SimpleNamespace(model_type="llava_onevision", image_token_id=5, video_token_id=6)
TWO = [tiny.shown("video", 32, [0.0, 0.5]), tiny.shown("video", 48, [2.0, 3.0, 4.0])]


@pytest.fixture
def settings(tmp_path):
    """How a family's frames are cut, by its name."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(STILL))

    def read(family: str, **changes: int):
        config = getattr(tiny_siglip, family)(depth=1, layers=1).config
        config.vision_config.update(changes)
        return find_language(family).settings(tmp_path, config)

    return read


@pytest.fixture(scope="module")
def tokenizer():
    """The demo model's tokenizer, with what both families have of their own."""
    tokenizer = AutoTokenizer.from_pretrained(find_folder("demo"))
    words = ["<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_special_tokens({"additional_special_tokens": words}, replace_extra_special_tokens=False)
    frame = "<|vision_start|><|video_pad|><|vision_end|>"
    tokenizer.chat_template = tokenizer.chat_template.replace(frame, "<video>")
    LLAVA.video_token_id, LLAVA.image_token_id = tokenizer.convert_tokens_to_ids(["<video>", "<image>"])
    return tokenizer


def pictures(frames: int, side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), dtype=np.uint8))


# --------------------------------------------------------------------------------------------- LLaVA-OneVision


def test_llava_frames_equal_the_familys_image_processor(settings):
    frames, size = pictures(3, 30), {"height": 30, "width": 30}
    processor = LlavaOnevisionImageProcessorPil(**STILL, size=size, image_grid_pinpoints=[[30, 30]])
    want = processor(images=list(frames.numpy()), return_tensors="pt")["pixel_values"][:, 0]  # each image as a whole
    pixels, grid = settings("llava_onevision").patchify(frames)
    assert grid == (3, 7, 7)  # two pixels are left over
    torch.testing.assert_close(pixels, want, rtol=0, atol=1e-5)


def test_a_llava_frame_has_as_many_tokens_as_its_processor_writes(settings):
    cut = settings("llava_onevision")
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)  # its construction would ask for torchvision
    processor.video_token, processor.num_image_tokens = "<video>", 49
    text = processor.replace_video_token({"pixel_values_videos": [torch.zeros(5, 3, 30, 30)]}, 0)
    extent = Extent(frames=5, height=1080, width=1920, patches=cut, reducer=None)
    assert text.count("<video>") == extent.tokens + 1 == 5 * 16 + 1
    assert cut.tokens(30, 30) == 16


def test_a_newline_follows_each_video_and_is_text(tokenizer):
    prompt = build_prompt(tokenizer, LLAVA, QUESTION, TWO)
    is_video = prompt.ids[0] == LLAVA.video_token_id
    kinds = prompt.types[0][is_video].tolist()
    assert kinds == [VIDEO] * 32 + [TEXT] + [VIDEO] * 48 + [TEXT]
    assert not prompt.types[0][~is_video].any()


@torch.no_grad()
def test_the_newline_stays_where_visual_tokens_are_left_out(tokenizer):
    """What goes through the language model is that of the prompt without them, whatever stays of each video."""
    model = tiny_siglip.llava_onevision(
        words=len(tokenizer), special={"video_token_id": LLAVA.video_token_id, "image_token_id": LLAVA.image_token_id}
    )
    prompt = build_prompt(tokenizer, LLAVA, QUESTION, TWO)
    tokens = torch.randn(80, 32, generator=torch.Generator().manual_seed(0))
    stays = torch.arange(80) % 3 == 0
    rows, places = prompt.rows(stays), torch.arange(prompt.ids.shape[1])[None]
    visual = Visual(tokens, tokens.new_empty(0, 80, 32))[stays]
    got = prefill(model, prompt.only(rows), visual, places[:, rows]).logits

    words, left = model.get_input_embeddings()(prompt.ids[0]), iter(tokens)
    for at, (token, kind) in enumerate(zip(prompt.ids[0], prompt.types[0], strict=True)):
        if token == LLAVA.video_token_id:
            words[at] = next(left) if kind == VIDEO else model.model.image_newline
    want = model(inputs_embeds=words[None, rows], position_ids=places[:, rows]).logits[:, -1]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": -2}, r"layer -2 \(full\): compression is supported for models that read all of the"),
        ({"vision_feature_select_strategy": "default"}, r"layer -1 \(default\): compression"),
    ],
)
def test_a_llava_that_reads_its_encoder_otherwise_is_refused(changes, message):
    model = tiny_siglip.llava_onevision(depth=2, layers=1)
    model.config.update(changes)
    with pytest.raises(ModelError, match=message):
        find_encoder(model)


def test_a_llava_with_another_encoder_is_refused():
    model = tiny_siglip.llava_onevision(depth=2, layers=1)
    model.config.vision_config = CLIPVisionConfig()
    with pytest.raises(ModelError, match="encoder is a 'clip_vision_model': a LLaVA-OneVision is supported with"):
        find_encoder(model)


# ---------------------------------------------------------------------------------------------------- SmolVLM2


def test_smolvlm_frames_equal_the_familys_image_processor(settings):
    frames = pictures(3, 38)
    sizes = {"size": {"longest_edge": 38}, "max_image_size": {"longest_edge": 38}}
    processor = SmolVLMImageProcessorPil(**STILL, **sizes, do_image_splitting=False)
    want = processor(images=[list(frames.numpy())], return_tensors="pt")["pixel_values"][0]
    pixels, grid = settings("smolvlm").patchify(frames)
    assert (grid, settings("smolvlm").tokens(38, 38)) == ((3, 9, 9), 9)
    torch.testing.assert_close(pixels, want, rtol=0, atol=1e-5)


def test_smolvlm_frames_that_do_not_divide_into_squares_are_refused(settings):
    with pytest.raises(ModelError, match=r"config\.json makes no sense: 40 x 40 pixels do not divide into tokens of"):
        settings("smolvlm", image_size=40)


@pytest.mark.parametrize("seconds", [41.97, 3725.4])
def test_smolvlm_prompts_have_the_text_of_the_familys_processor_for_a_video(seconds):
    times = [0.0, 0.98, 59.99, 61.5, 3599.0, 3661.2]
    processor = SmolVLMProcessor.__new__(SmolVLMProcessor)  # its construction would ask for torchvision
    processor.fake_image_token, processor.global_image_token = "<fake_token_around_image>", "<global-img>"
    processor.image_token, processor.image_seq_len = "<image>", 1
    metadata = SimpleNamespace(fps=30, timestamps=times, duration=seconds)
    want = processor.replace_video_token(
        {"pixel_values": torch.zeros(1, 6, 3, 36, 36), "video_metadata": [metadata]}, 0
    )
    assert find_language("smolvlm").video_text(times, seconds=seconds) == want
    assert "\nFrame from 59:59:<fake_token" in want
    assert "\nFrame from 61:01:<fake_token" in want


def test_numbers_of_frames_are_written_as_by_the_library_that_its_processor_asks():
    for number in [*range(200), 999, 1000, 1001, 1100, 2064, 12345, 100000, 999999]:
        assert smolvlm.in_words(number) == num2words(number)


@pytest.mark.parametrize("first", ["video", "image", "text"])
@pytest.mark.parametrize("generation", [True, False])
def test_the_smolvlm_template_renders_as_its_processors(tokenizer, first, generation):
    said = {"type": "text", "text": QUESTION}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": first, "text": "So: "}, {"type": "video"}, said]},
        {"role": "assistant", "content": [{"type": "text", "text": "Red."}]},
    ]
    got, want = (
        tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=generation
        )
        for template in (smolvlm.TEMPLATE, DEFAULT_CHAT_TEMPLATE)
    )
    assert got == want
    assert "System: Be brief.<end_of_utterance>\n" in got


def test_a_template_that_leaves_the_system_prompt_out_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "<video>{{ messages[-1].content[-1].text }}")
    build_prompt(tokenizer, LLAVA, QUESTION, TWO[:1])
    with pytest.raises(ValueError, match="the model's chat template leaves out the question or the system prompt"):
        build_prompt(tokenizer, LLAVA, QUESTION, TWO[:1], system="Be brief.")


def test_text_with_what_stands_for_a_video_is_refused():
    config = SimpleNamespace(model_type="smolvlm", image_token_id=LLAVA.image_token_id)
    with pytest.raises(ValueError, match="the text contains '<video>'"):
        build_prompt(AutoTokenizer.from_pretrained(find_folder("demo")), config, "What is <video>?", TWO)
