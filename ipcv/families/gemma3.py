"""Gemma 3: a SigLIP encoder for frames of one size, and a language model with windows in which pictures are seen whole.

It knows images only: a video is its frames, one after the other, each behind its time. How that is written is customary
and not part of any processor.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ipcv import positions
from ipcv.encoders import Attention, Encoder
from ipcv.errors import ModelError
from ipcv.families import framed
from ipcv.families.family import Family, Language
from ipcv.grids import Grid
from ipcv.shapes import VisionShape
from ipcv.stills import StillSettings

PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"  # as the processor writes it in the prompt

ATTENTION = Attention(
    module="self_attn",
    norm="layer_norm1",
    scale="scale",
    project=framed.separate,
    output=lambda attention, mixed: (attention.out_proj(mixed), None),
)


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    tower = model.model.vision_tower

    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // tower.config.patch_size, width // tower.config.patch_size)]

    return Encoder(blocks=tower.encoder.layers, attention=ATTENTION, entrance=tower.embeddings, grids=grids)


def settings(folder: Path, config: Any) -> StillSettings:
    """How the model in a folder wants its frames. Raises `ModelError` where it is no Gemma 3 as published."""
    vision, text = config.vision_config, config.get_text_config()
    if vision.model_type != "siglip_vision_model" or text.use_bidirectional_attention:
        raise ModelError(
            f"this Gemma 3 has an encoder of type {vision.model_type!r}"
            f"{' and text that attends both ways' if text.use_bidirectional_attention else ''}: supported are those "
            "with SigLIP, over a language model that attends to what came before"
        )
    size, side = vision.image_size, vision.patch_size
    return StillSettings.from_folder(folder, size=(size, size), patch_size=side, merge_size=_pooled(config))


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return VisionShape(
        blocks=vision.num_hidden_layers,
        width=vision.hidden_size,
        heads=vision.num_attention_heads,
        mlp_width=vision.intermediate_size,
        patch_values=vision.num_channels * vision.patch_size**2,
        merge=_pooled(config) ** 2,
        pooled=True,
        out_width=config.get_text_config().hidden_size,
    )


def _pooled(config: Any) -> int:
    """Patches per side of a square that becomes one token."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    return int(side // config.mm_tokens_per_image**0.5)


FAMILY = Family(
    encoder=encoder,
    language=Language(
        placeholder="<start_of_image>",
        called="image",
        image="<start_of_image>",
        still=PICTURE,
        frame="Frame {time:.2f}:" + PICTURE,
        kind="image",
        settings=settings,
        encode=framed.encode,
        taken=framed.taken,
        positions=positions.of_text,
        whole=("model.vision_tower", "model.multi_modal_projector", "lm_head"),
        vision=shape,
        reach=True,
    ),
)
