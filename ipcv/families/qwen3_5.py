"""Qwen3.5, dense and with experts: most decoder layers attend linearly (gated delta rule) and have no keys."""

from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.shapes import LinearShape, TextShape, VisionShape, linear_layers
from ipcv.families import packed
from ipcv.families.family import Family
from ipcv.families.framed import HALF_RANGE
from ipcv.families.qwen3_vl import FRAME, TIMED

# Small projections whose errors would grow: strengths and decays of the state, and gates of the experts.
GATES = ("in_proj_a", "in_proj_b", "shared_expert_gate")


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    return packed.encoder(model, pixel_range=HALF_RANGE)


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return packed.shape(
        vision, width=vision.hidden_size, mlp_width=vision.intermediate_size, out_width=vision.out_hidden_size
    )


def decoder(config: Any) -> TextShape:
    """The language model's sizes in its configuration."""
    linear = LinearShape(
        layers=linear_layers(config),
        heads=config.linear_num_value_heads,
        value_size=config.linear_value_head_dim,
        key_heads=config.linear_num_key_heads,
        key_size=config.linear_key_head_dim,
        kernel=config.linear_conv_kernel_dim,
    )
    experts = _experts(config) if hasattr(config, "num_experts") else {}
    return TextShape.of(config, gated=True, linear=linear, **experts)


def _experts(config: Any) -> dict[str, Any]:
    """In every layer, besides the chosen experts, one that every token goes through, with a gate."""
    chosen = config.num_experts_per_tok * config.moe_intermediate_size
    return {
        "sparse": tuple(range(config.num_hidden_layers)),
        "expert_width": chosen + config.shared_expert_intermediate_size,
        "experts": config.num_experts + 1,
    }


FAMILY = Family(
    encoder=encoder,
    language=packed.LANGUAGE(
        placeholder=FRAME,
        frame_format=TIMED,
        positions=positions.of_grid,
        unquantized=("model.visual", "lm_head", *GATES),
        vision=shape,
        decoder=decoder,
    ),
)
