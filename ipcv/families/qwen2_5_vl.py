"""Qwen2.5-VL: most blocks attend within windows; positions in time are seconds."""

from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.shapes import VisionShape
from ipcv.families import packed
from ipcv.families.family import Family


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    return packed.encoder(model, window=_side(model.config.vision_config))


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return packed.shape(
        vision,
        width=vision.hidden_size,
        mlp_width=vision.intermediate_size,
        mlp_parts=3,
        out_width=vision.out_hidden_size,
        window=_side(vision),
        full_blocks=tuple(vision.fullatt_block_indexes),
    )


def _side(vision: Any) -> int:
    """Patches per side of a window: whole tokens."""
    return vision.window_size // vision.spatial_merge_size // vision.patch_size * vision.spatial_merge_size


FAMILY = Family(
    encoder=encoder,
    language=packed.LANGUAGE(placeholder="<|video_pad|>", positions=positions.of_timed_grid, vision=shape),
)
