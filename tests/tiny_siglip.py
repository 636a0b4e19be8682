"""Tiny random models with a SigLIP encoder."""

from typing import Any

import tiny
from tiny import IMAGE, PATCH, VIDEO, Special
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)


def vision(depth: int, pixels: int) -> dict[str, Any]:
    """The encoder's configuration, for frames of so many pixels a side."""
    return {
        "hidden_size": 32,
        "num_hidden_layers": depth,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "image_size": pixels,
        "patch_size": PATCH,
    }


def text(layers: int, width: int, words: int) -> dict[str, Any]:
    """The language model's configuration, whose positions have one axis."""
    config = tiny.text(layers, width, words)
    del config["rope_parameters"]["mrope_section"]
    return config


def llava_onevision(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> LlavaOnevisionForConditionalGeneration:
    """A random LLaVA-OneVision: frames of 7 × 7 patches and two pixels more, over a Qwen2."""
    numbers = special or {}
    config = LlavaOnevisionConfig(
        vision_config=vision(depth, 7 * PATCH + 2) | {"model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=text(layers, width, words) | {"model_type": "qwen2"},
        image_token_index=numbers.get("image_token_id", IMAGE),
        video_token_index=numbers.get("video_token_id", VIDEO),
    )
    return tiny.drawn(LlavaOnevisionForConditionalGeneration(config), seed)


def smolvlm(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> SmolVLMForConditionalGeneration:
    """A random SmolVLM2: frames of 9 × 9 patches and two pixels more, nine patches to a token, over a Llama."""
    config = SmolVLMConfig(
        vision_config=vision(depth, 9 * PATCH + 2),
        text_config=text(layers, width, words) | {"model_type": "llama"},
        image_token_id=(special or {}).get("image_token_id", IMAGE),
        scale_factor=3,
    )
    return tiny.drawn(SmolVLMForConditionalGeneration(config), seed)
