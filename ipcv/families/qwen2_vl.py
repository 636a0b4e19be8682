"""Qwen2-VL: patches of frame pairs, all in one row, with rotary positions."""

from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.shapes import VisionShape
from ipcv.families import packed
from ipcv.families.family import Family


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return packed.shape(
        vision, width=vision.embed_dim, mlp_width=int(vision.embed_dim * vision.mlp_ratio), out_width=vision.hidden_size
    )


FAMILY = Family(
    encoder=packed.encoder,
    language=packed.LANGUAGE(placeholder="<|video_pad|>", positions=positions.of_grid, vision=shape),
    offers=frozenset({"merging"}),
)
