"""Every family's folder on disk, with a tiny model in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tiny
import tiny_gemma
import tiny_glm
import tiny_qwen3_5
import tiny_siglip
import torch
from torch import Tensor

PIXELS = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "min_pixels": 64, "max_pixels": 64 * 64}
QWEN = PIXELS | {"patch_size": tiny.PATCH, "temporal_patch_size": tiny.FRAMES, "merge_size": 2}
STILL = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
INTERNVL = (  # its tokenizer has these tokens of its own, the visual one first, and its chat template names them
    ["<IMG_CONTEXT>", "<img>", "</img>", "<video>"],
    {"<|vision_start|><|video_pad|><|vision_end|>": "<video>\n"},
)
GLM_VISUAL = {"image_token_id": "<|image|>", "video_token_id": "<|video|>"}
OF_GLM = QWEN | {"video_processor_type": "Glm4vVideoProcessor", "max_pixels": 6 * 64 * 64}
GEMMA = (  # whose template knows no videos
    ["<image_soft_token>", "<start_of_image>", "<end_of_image>"],
    {
        "<|vision_start|><|image_pad|><|vision_end|>": "<start_of_image>",
        "<|vision_start|><|video_pad|><|vision_end|>": "",
    },
)
LLAVA = ["<image>", "<video>"], {"<|vision_start|><|video_pad|><|vision_end|>": "<video>\n"}
SMOL: tuple[list[str], dict[str, str]] = (["<image>", "<fake_token_around_image>", "<global-img>"], {})
OF_CLIPS = QWEN | {"video_processor_type": "Qwen3VLVideoProcessor", "max_pixels": 6 * 64 * 64}
TOKENS = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family's folder, and what transformers wants to know of a video besides."""

    build: Callable[..., Any]
    preprocessor: dict[str, Any] = field(default_factory=lambda: QWEN)
    video_preprocessor: dict[str, Any] | None = None
    more: Callable[[list[list[float]]], dict[str, Any]] = lambda _: {}
    words: tuple[list[str], dict[str, str]] = ([], {})  # more tokens, and changes of the chat template
    ids: dict[str, str] = field(default_factory=dict)  # which of them has which number in the configuration
    pixels: Callable[[list[Tensor]], dict[str, Tensor]] | None = None  # videos of frames of one size, likewise
    types: str | None = None  # what transformers calls the types of tokens, if it wants them beside these
    vision: str = "model.visual."  # how the names of the encoder's modules begin
    text: str = "model.language_model."  # and those of the language model's
    whole: tuple[str, ...] = ()  # how those of the language model's linears end that are not quantised
    seed: int = 0  # of weights that say something


GLM = Case(build=tiny_glm.glm4v, video_preprocessor=OF_GLM, words=tiny_glm.WORDS, ids=GLM_VISUAL)
CASES = {
    "qwen2_vl": Case(build=tiny.qwen2_vl),
    "qwen2_5_vl": Case(
        build=tiny.qwen2_5_vl, more=lambda times: {"second_per_grid_ts": [each[2] - each[0] for each in times]}
    ),
    "qwen3_vl": Case(build=tiny.qwen3_vl, video_preprocessor=OF_CLIPS),
    "qwen3_vl_moe": Case(build=tiny.qwen3_vl_moe, video_preprocessor=OF_CLIPS),
    "qwen3_5": Case(build=tiny_qwen3_5.qwen3_5, video_preprocessor=OF_CLIPS, whole=(".in_proj_a", ".in_proj_b")),
    "qwen3_5_moe": Case(
        build=tiny_qwen3_5.qwen3_5_moe,
        video_preprocessor=OF_CLIPS,
        whole=(".in_proj_a", ".in_proj_b", ".shared_expert_gate"),
    ),
    "internvl": Case(
        build=tiny.internvl,
        preprocessor=STILL,
        words=INTERNVL,
        ids={"image_token_id": "<IMG_CONTEXT>"},
        pixels=lambda videos: {"pixel_values": torch.cat(videos)},
        vision="model.vision_tower.",
        seed=1,
    ),
    "glm4v": GLM,
    "glm4v_moe": replace(GLM, build=tiny_glm.glm4v_moe),
    "glm46v": replace(GLM, build=tiny_glm.glm46v),
    "gemma3": Case(
        build=tiny_gemma.gemma3,
        preprocessor=STILL,
        words=GEMMA,
        ids={"image_token_id": "<image_soft_token>"},
        pixels=lambda videos: {"pixel_values": torch.cat(videos)},
        types="token_type_ids",
        vision="model.vision_tower.",
    ),
    "llava_onevision": Case(
        build=tiny_siglip.llava_onevision,
        preprocessor=STILL,
        words=LLAVA,
        ids={"image_token_id": "<image>", "video_token_id": "<video>"},
        pixels=lambda videos: {"pixel_values_videos": torch.stack(videos)},
        vision="model.vision_tower.",
        seed=2,
    ),
    "smolvlm": Case(
        build=tiny_siglip.smolvlm,
        preprocessor=STILL,
        words=SMOL,
        ids={"image_token_id": "<image>"},
        pixels=lambda videos: {"pixel_values": torch.cat(videos)[None]},
        vision="model.vision_model.",
        text="model.text_model.",
    ),
}


def save(case: Case, path: Path) -> None:
    """A family's folder with random weights and the demo model's tokenizer."""
    tokenizer = tiny.tokenizer(*case.words)
    tokenizer.save_pretrained(path)
    special = TOKENS | {name: tokenizer.convert_tokens_to_ids(token) for name, token in case.ids.items()}
    model = case.build(width=64, words=len(tokenizer), special=special, seed=case.seed)
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(case.preprocessor))
    if case.video_preprocessor:
        (path / "video_preprocessor_config.json").write_text(json.dumps(case.video_preprocessor))
