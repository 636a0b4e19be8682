"""Tiny random models of the GLM-4.xV families."""

from typing import Any

import torch
from tiny import FRAMES, PATCH, SPECIAL, Special, drawn, text
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
)

WORDS = (  # its tokenizer has these tokens of its own, and its chat template names them
    [f"<|{name}|>" for name in "image video begin_of_image end_of_image begin_of_video end_of_video".split()],  # noqa: SIM905
    {
        "<|vision_start|><|video_pad|><|vision_end|>": "<|begin_of_video|><|video|><|end_of_video|>",
        "<|vision_start|><|image_pad|><|vision_end|>": "<|begin_of_image|><|image|><|end_of_image|>",
    },
)
OWN = ("image_token_id", "video_token_id")  # other tokens have no names in its configuration, or others


def glm4v(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Glm4vForConditionalGeneration:
    """A random GLM-4.1V: 5 × 5 learnt positions, and half of every head rotated."""
    config = Glm4vConfig(
        vision_config=vision(depth, width), text_config=half_rotated(text(layers, width, words)), **tokens(special)
    )
    return drawn(Glm4vForConditionalGeneration(config), seed)


def glm46v(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Glm46VForConditionalGeneration:
    """The same as a GLM-4.6V, whose parts can be those of other models."""
    config = Glm46VConfig(
        vision_config=vision(depth, width) | {"model_type": "glm4v_vision"},
        text_config=half_rotated(text(layers, width, words)) | {"model_type": "glm4v_text"},
        **tokens(special),
    )
    return drawn(Glm46VForConditionalGeneration(config), seed)


def glm4v_moe(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Glm4vMoeForConditionalGeneration:
    """A random GLM-4.5V: two of six experts for each token, and two for all, in all layers but the first two."""
    experts = {
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "n_shared_experts": 2,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 2,
        "routed_scaling_factor": 1.7,
    }
    language = text(layers, width, words) | {"head_dim": width // 2} | experts
    language["rope_parameters"]["partial_rotary_factor"] = 0.5
    model = drawn(
        Glm4vMoeForConditionalGeneration(
            Glm4vMoeConfig(vision_config=vision(depth, width), text_config=language, **tokens(special))
        ),
        seed,
    )
    for layer in model.model.language_model.layers[2:]:  # so large that it changes which experts are chosen
        layer.mlp.gate.e_score_correction_bias.copy_(torch.linspace(-0.5, 0.5, 6).roll(layer.self_attn.layer_idx))
    return model


def vision(depth: int, width: int) -> dict[str, Any]:
    """The encoder's configuration."""
    return {
        "depth": depth,
        "hidden_size": 32,
        "intermediate_size": 40,
        "out_hidden_size": width,
        "num_heads": 2,
        "image_size": 5 * PATCH,
        "patch_size": PATCH,
        "temporal_patch_size": FRAMES,
    }


def half_rotated(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's configuration with larger heads, half of which is rotated."""
    rotary = config["rope_parameters"] | {"partial_rotary_factor": 0.5}
    return config | {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rotary}


def tokens(special: Special) -> dict[str, int]:
    """The numbers of the visual tokens."""
    return {name: (special or SPECIAL)[name] for name in OWN}
