"""Tiny random models of the Gemma families."""

import tiny
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

WHOLE, SLIDING = "full_attention", "sliding_attention"
KINDS = [WHOLE, WHOLE, SLIDING, WHOLE, SLIDING]


def gemma3(
    depth: int = 6,
    layers: int = 5,
    seed: int = 0,
    width: int = 32,
    words: int = 100,
    special: tiny.Special = None,
    window: int = 20,
    kinds: list[str] | None = None,
) -> Gemma3ForConditionalGeneration:
    """A random Gemma 3: frames of 8 × 8 patches, 16 tokens each; windows of so many positions in layers 2 and 4."""
    config = Gemma3Config(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": depth,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": 8 * tiny.PATCH,
            "patch_size": tiny.PATCH,
            "vision_use_head": False,
        },
        text_config=text(layers, width, words, window, kinds or KINDS[:layers]),
        mm_tokens_per_image=16,
        image_token_index=(special or tiny.SPECIAL)["image_token_id"],
    )
    return tiny.drawn(Gemma3ForConditionalGeneration(config), seed)


def text(layers: int, width: int, words: int, window: int, kinds: list[str]) -> dict:
    """The language model's configuration: heads of a size, and logits of a scale, of their own."""
    config = tiny.text(layers, width, words)
    return config | {
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": window,
        "layer_types": kinds,
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": 100.0},
            WHOLE: {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        },
    }
