"""Pixels and prompts of the families beside transformers' own processors, as far as these run without torchvision."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, smart_resize

from ipcv.architecture.preprocess import FrameSettings, PatchSettings
from ipcv.errors import ModelError
from ipcv.families import find_encoder, find_language
from ipcv.models.prompt import build_prompt

QWEN3 = {  # as Qwen3-VL's own file has it
    "size": {"longest_edge": 25165824, "shortest_edge": 4096},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "video_processor_type": "Qwen3VLVideoProcessor",
}
SETTINGS = PatchSettings.from_dict(QWEN3)
QUESTION = "What colour is the circle?"


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    frames=st.sampled_from([2, 6, 16, 64, 768]),
    limits=st.sampled_from([(4096, 25165824), (131072, 786432)]),
)
def test_qwen3_sizes_depend_on_the_number_of_frames(height, width, frames, limits):
    if max(height, width) > 150 * min(height, width):
        return
    size = {"shortest_edge": limits[0], "longest_edge": limits[1]}
    settings = PatchSettings.from_dict(QWEN3 | {"size": size})
    want = smart_resize(frames, height, width, 2, 32, *limits)
    assert settings.resize(height, width, frames) == want


def test_fewer_pixels_a_frame_can_be_asked_for_than_qwen3_would_take():
    assert SETTINGS.resize(1080, 1920, 16) == smart_resize(16, 1080, 1920, 2, 32, 4096, 25165824)
    height, width = SETTINGS.limited(448 * 448).resize(1080, 1920, 16)
    assert 0.8 * 448 * 448 < height * width <= 448 * 448
    assert SETTINGS.limited(448 * 448).resize(1080, 1920, 700)[0] < height  # now all frames together are too much
    with pytest.raises(ValueError, match="max_pixels must be 1024 to 12582912"):
        SETTINGS.limited(1023)


def pictures(frames: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (frames, 64, 96, 3), dtype=np.uint8))


def test_qwen3_stills_equal_the_familys_image_processor():
    stills = pictures(3)
    own = {name: QWEN3[name] for name in ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")}
    want = Qwen2VLImageProcessorPil(do_resize=False, **own)(images=list(stills.numpy()), return_tensors="pt")
    patches, grid = SETTINGS.patchify(stills.repeat_interleave(2, 0))
    assert (len(stills), *want["image_grid_thw"][0, 1:].tolist()) == grid
    torch.testing.assert_close(patches, want["pixel_values"], rtol=0, atol=1e-6)


def test_qwen3_frames_are_cut_as_by_the_familys_video_processor():
    frames = pictures(6)
    normalised = ((frames / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[None]
    want, *grid = Qwen3VLVideoProcessor().patchify(normalised, patch_size=16, merge_size=2, temporal_patch_size=2)
    patches, ours = SETTINGS.patchify(frames)
    assert ours == tuple(grid)
    torch.testing.assert_close(patches, want[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5", "qwen3_5_moe"])
def test_qwen3_prompts_have_the_text_of_the_familys_processor_for_a_video(demo, family):
    """At a steady rate, where its arithmetic with frame numbers gives the frames' times."""
    tokenizer, numbers, rate, tokens = demo.loaded.tokenizer, [48, 60, 72, 84, 96, 108], 24, 6
    processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)  # its construction would ask for torchvision
    processor.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    processor.video_token, processor.vision_start_token, processor.vision_end_token = (
        "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
    )  # fmt: skip
    given_ = {
        "video_grid_thw": torch.tensor([[3, 4, 6]]),
        "video_metadata": [SimpleNamespace(fps=rate, frames_indices=list(numbers))],
    }
    text = processor.replace_video_token(given_, 0)
    assert text.startswith("<2.2 seconds><|vision_start|><|video_pad|>")
    message = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}]
    rendered = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    want = tokenizer(rendered.replace("<|vision_start|><|video_pad|><|vision_end|>", text)).input_ids
    assert type(processor).__name__ == PROCESSOR_MAPPING_NAMES[family]
    config = SimpleNamespace(model_type=family, video_token_id=6)
    middles = [(numbers[i] + numbers[i + 1]) / 2 / rate for i in (0, 2, 4)]
    prompt = build_prompt(tokenizer, config, QUESTION, [tiny.shown("video", 3 * tokens, middles)])
    assert prompt.ids[0].tolist() == want
    assert prompt.types[0].tolist() == [2 * (token == 6) for token in want]


def test_qwen3_times_are_those_of_the_source_rounded_to_a_tenth_of_a_second():
    text = find_language("qwen3_vl").video_text([90.04, 3600.25])
    assert text.split("<|vision_start|>")[0] == "<90.0 seconds>"
    assert "<|vision_end|><3600.2 seconds><|vision_start|>" in text


def test_a_template_that_shows_a_video_otherwise_is_refused(demo):
    config = SimpleNamespace(model_type="qwen3_vl", video_token_id=6)
    tokenizer = demo.loaded.tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "chat_template", "<|video_pad|>")
        with pytest.raises(ValueError, match="gives 0 places for video"):
            build_prompt(tokenizer, config, QUESTION, [tiny.shown("video", 1)])


# --------------------------------------------------------------------------------------------------- InternVL

STILL: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def stills(folder: Path, **changes: Any) -> FrameSettings:
    """The settings of a model with frames of 32 × 32."""
    values = {name: value for name, value in (STILL | changes).items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return find_language("internvl").settings(folder, tiny.internvl(depth=1, layers=1).config)


def test_internvl_frames_equal_the_familys_image_processor(tmp_path):
    settings, frames = stills(tmp_path), pictures(3)[:, :32, :32]
    processor = GotOcr2ImageProcessorPil(**STILL, size={"height": 32, "width": 32}, crop_to_patches=False)
    want = processor(images=list(frames.numpy()), return_tensors="pt")["pixel_values"]
    pixels, grid = settings.patchify(frames)
    assert grid == (3, 8, 8)
    torch.testing.assert_close(pixels, want, rtol=0, atol=1e-5)


def test_internvl_has_one_size_of_frames(tmp_path):
    settings = stills(tmp_path)
    assert settings.resize(1080, 1920, 64) == (32, 32)
    assert settings.limited(448 * 448) == settings.limited(100, strict=False) == settings
    with pytest.raises(
        ValueError, match="max_pixels must be 1024 or more, not 1023: this model's frames are all of 32"
    ):
        settings.limited(1023)
    with pytest.raises(ValueError, match="frames must be 32 x 32, not 64 x 96"):
        settings.patchify(pictures(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"image_std": None}, "lacks 'image_std'"), ({"image_mean": [1]}, "makes no sense: image_mean must be three")],
)
def test_an_internvl_config_without_sense_is_an_error_that_names_it(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        stills(tmp_path, **changes)
    assert str(caught.value).startswith(str(tmp_path / "preprocessor_config.json"))


def test_internvl_prompts_have_the_text_of_the_familys_processor_for_a_video():
    processor = InternVLProcessor.__new__(InternVLProcessor)  # its construction would ask for torchvision
    processor.start_image_token, processor.image_token, processor.end_image_token = "<img>", "<IMG_CONTEXT>", "</img>"
    processor.image_seq_length = 1
    want = processor.replace_video_token({"pixel_values_videos": [torch.zeros(3, 3, 32, 32)]}, 0)
    assert find_language("internvl").video_text([0.0, 0.5, 1.0]) == want


def test_an_internvl_that_reads_another_layer_than_the_last_is_refused():
    model = tiny.internvl(depth=2, layers=1)
    model.config.vision_feature_layer = -2
    with pytest.raises(ModelError, match="reads its encoder's layer -2: compression is supported for models that read"):
        find_encoder(model)
