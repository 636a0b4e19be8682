"""Qwen3-VL, dense and with experts: the output of some blocks goes to the first decoder layers as well (DeepStack)."""

from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.shapes import VisionShape
from ipcv.families import packed
from ipcv.families.family import Family
from ipcv.families.framed import HALF_RANGE

# Every temporal patch stands behind its time, in a frame of its own. transformers from 5 on, and not the version that
# the models came out with, leaves the chat template's frame around all of them.
FRAME = "<|vision_start|><|video_pad|><|vision_end|>"
TIMED = "<{time:.1f} seconds>" + FRAME


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    tower = model.model.visual
    return packed.encoder(
        model,
        deepstack=dict(zip(tower.deepstack_visual_indexes, tower.deepstack_merger_list, strict=True)),
        pixel_range=HALF_RANGE,
    )


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return packed.shape(
        vision,
        width=vision.hidden_size,
        mlp_width=vision.intermediate_size,
        out_width=vision.out_hidden_size,
        deepstack=tuple(vision.deepstack_visual_indexes),
    )


FAMILY = Family(
    encoder=encoder,
    language=packed.LANGUAGE(placeholder=FRAME, frame_format=TIMED, positions=positions.of_grid, vision=shape),
)
