"""Tiny random Qwen3.5 models: layers 1 and 3 attend over keys, all others linearly."""

from typing import Any

import tiny
import torch
import torch.nn.functional as F
from tiny import Special
from torch import Tensor
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
)

ROTARY = {"partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
EXPERTS = {
    "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 64
}  # fmt: skip
LINEAR = {
    "full_attention_interval": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}


def qwen3_5(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen3_5ForConditionalGeneration:
    """A random Qwen3.5: 5 × 5 learnt positions in the encoder, half of each head rotated in the language model."""
    config = Qwen3_5Config(
        vision_config=vision(depth, width), text_config=text(layers, width, words), **special or tiny.SPECIAL
    )
    return drawn(Qwen3_5ForConditionalGeneration(config), seed)


def qwen3_5_moe(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen3_5MoeForConditionalGeneration:
    """The same with two of five experts for each token, and one that is for all."""
    config = Qwen3_5MoeConfig(
        vision_config=vision(depth, width), text_config=text(layers, width, words) | EXPERTS, **special or tiny.SPECIAL
    )
    return drawn(Qwen3_5MoeForConditionalGeneration(config), seed)


def vision(depth: int, width: int) -> dict[str, Any]:
    """The encoder's configuration."""
    return {
        "depth": depth,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": width,
        "num_heads": 2,
        "patch_size": tiny.PATCH,
        "temporal_patch_size": tiny.FRAMES,
        "num_position_embeddings": 25,
    }


def text(layers: int, width: int, words: int) -> dict[str, Any]:
    """The language model's configuration."""
    plain = tiny.interleaved(tiny.text(layers, width, words))
    return plain | LINEAR | {"rope_parameters": plain["rope_parameters"] | ROTARY}


def drawn(model: Any, seed: int) -> Any:
    """As in `tiny`. Norms multiply by one more than their weight, and states are to last for some tokens."""
    tiny.drawn(model, seed)
    for module in model.modules():
        if type(module).__name__.endswith("_5RMSNorm") or type(module).__name__.endswith("_5MoeRMSNorm"):
            module.weight -= 1
        if hasattr(module, "A_log"):
            module.A_log.mul_(10).sub_(2.5)
    return model


def one_token(
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor, **_: Any
) -> tuple[Tensor, Tensor]:
    """The gated delta rule for one token of one prompt, in matrix products: arguments and results as transformers'."""
    repeats = value.shape[2] // query.shape[2]
    query, key = (F.normalize(each, dim=-1).repeat_interleave(repeats, 2)[0, 0, :, None] for each in (query, key))
    state = initial_state[0] * g.exp()[0, 0, :, None, None]
    change = beta[0, 0, :, None, None] * (value[0, 0, :, None] - torch.bmm(key, state))
    state = state + torch.bmm(key.transpose(1, 2), change)
    read = torch.bmm(query, state) / query.shape[-1] ** 0.5
    return read.transpose(0, 1)[None], state[None]
