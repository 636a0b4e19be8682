"""Models of published sizes with random weights, as speed and memory do not depend on what a model has learnt.

The sizes are those of the `config.json` in each of Qwen's repositories.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2VLConfig

LEAST = 12  # blocks of a scaled encoder: the paper stabilises seven from the third on
SPECIAL = {  # at the end of the smallest vocabulary
    "image_token_id": 4091,
    "video_token_id": 4092,
    "vision_start_token_id": 4093,
    "vision_end_token_id": 4094,
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A language model's sizes; the encoders of a family are alike but for what they give to it."""

    windows: bool  # Qwen2.5-VL, whose encoder attends within windows
    layers: int
    width: int
    heads: int
    key_heads: int
    mlp_width: int
    vocabulary: int
    tied: bool = False  # whether words are read and scored with the same weights


SIZES = {
    "qwen2-vl-2b": Size(
        windows=False, layers=28, width=1536, heads=12, key_heads=2, mlp_width=8960, vocabulary=151936, tied=True
    ),
    "qwen2-vl-7b": Size(
        windows=False, layers=28, width=3584, heads=28, key_heads=4, mlp_width=18944, vocabulary=152064
    ),
    "qwen2.5-vl-3b": Size(
        windows=True, layers=36, width=2048, heads=16, key_heads=2, mlp_width=11008, vocabulary=151936, tied=True
    ),
    "qwen2.5-vl-7b": Size(
        windows=True, layers=28, width=3584, heads=28, key_heads=4, mlp_width=18944, vocabulary=152064
    ),
}


def config(name: str, scale: float, layers: int | None, special: dict[str, int] = SPECIAL) -> Any:
    """The configuration of a model of `SIZES`: a share `scale` of its blocks, words and, without `layers`, layers."""
    size, blocks = SIZES[name], max(LEAST, int(32 * scale))
    vision: dict[str, Any] = {"depth": blocks, "num_heads": 16, "patch_size": 14, "temporal_patch_size": 2}
    if size.windows:
        vision |= {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": size.width, "window_size": 112}
        vision["fullatt_block_indexes"] = [block for block in (7, 15, 23, 31) if block < blocks]
    else:
        vision |= {"embed_dim": 1280, "mlp_ratio": 4, "hidden_size": size.width}
    text = {
        "hidden_size": size.width,
        "intermediate_size": size.mlp_width,
        "num_hidden_layers": layers or max(4, int(size.layers * scale)),
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_heads,
        "vocab_size": max(4096, int(size.vocabulary * scale)),
        "max_position_embeddings": 2**20,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    family = Qwen2_5_VLConfig if size.windows else Qwen2VLConfig
    return family(vision_config=vision, text_config=text, tie_word_embeddings=size.tied, **special)


def build(
    name: str,
    scale: float,
    layers: int | None,
    device: torch.device,
    dtype: torch.dtype,
    special: dict[str, int] = SPECIAL,
) -> Any:
    """Build the model on `device`, with random weights, no end token, and the tokens `special`."""
    torch.manual_seed(0)
    with device:
        model = AutoModelForImageTextToText.from_config(config(name, scale, layers, special), dtype=dtype)
    model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(False)


def tower(blocks: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Qwen2-VL's encoder at its real width before a tiny language model, with weights that keep their inputs' scale."""
    settings = config("qwen2-vl-2b", 0, layers=1)
    settings.vision_config.depth = blocks
    torch.manual_seed(0)
    with device:
        model = AutoModelForImageTextToText.from_config(settings, dtype=dtype)
    for parameter in model.model.visual.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval().requires_grad_(False)
