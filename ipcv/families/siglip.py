"""Shared by families with a SigLIP encoder: frames of one size, one a row, without a class token."""

from typing import Any

from ipcv.architecture.encoder import Attention, Encoder
from ipcv.architecture.shapes import VisionShape
from ipcv.families import framed

ATTENTION = Attention(
    module="self_attn",
    norm="layer_norm1",
    scale="scale",
    project=framed.separate,
    output=lambda attention, mixed: (attention.out_proj(mixed), None),
)


def encoder(tower: Any) -> Encoder:
    """The SigLIP `tower` as an encoder for compression."""
    side = tower.config.patch_size
    return Encoder(
        blocks=tower.encoder.layers,
        attention=ATTENTION,
        patch_embedding=tower.embeddings,
        grids=framed.grids_of(side),
        pixels=framed.pixels_of(side),
        pixel_range=framed.HALF_RANGE,
    )


def shape(vision: Any, **more: Any) -> VisionShape:
    """The encoder's sizes in a `vision_config`; `more` are those that it does not name."""
    return VisionShape(
        blocks=vision.num_hidden_layers,
        width=vision.hidden_size,
        heads=vision.num_attention_heads,
        mlp_width=vision.intermediate_size,
        patch_values=vision.num_channels * vision.patch_size**2,
        **more,
    )
