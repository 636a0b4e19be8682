"""Gemma 3: frames of one size through a SigLIP; most decoder layers attend within windows, but see each frame whole.

It knows images only: a video is its frames, one after the other, each behind its time. How that is written is customary
and not part of any processor.
"""

from pathlib import Path
from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.fixed_size import StillSettings
from ipcv.architecture.shapes import VisionShape
from ipcv.errors import ModelError
from ipcv.families import framed, siglip
from ipcv.families.family import Family, Language

PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"  # as the processor writes it in the prompt


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    return siglip.encoder(model.model.vision_tower)


def settings(folder: Path, config: Any) -> StillSettings:
    """The frame settings of the model in a folder. Raises `ModelError` where it is no Gemma 3 as published."""
    vision, text = config.vision_config, config.get_text_config()
    if vision.model_type != "siglip_vision_model" or text.use_bidirectional_attention:
        raise ModelError(
            f"this Gemma 3 has an encoder of type {vision.model_type!r}"
            f"{' and text that attends both ways' if text.use_bidirectional_attention else ''}: supported are those "
            "with SigLIP, over a language model that attends to what came before"
        )
    return StillSettings.from_folder(folder, vision, merge=_pooled(config))


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    width = config.get_text_config().hidden_size
    return siglip.shape(config.vision_config, merge=_pooled(config) ** 2, pooled=True, out_width=width)


def _pooled(config: Any) -> int:
    """Patches per side of a square that becomes one token."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    return int(side // config.mm_tokens_per_image**0.5)


FAMILY = Family(
    encoder=encoder,
    language=Language(
        placeholder="<start_of_image>",
        template_kind="image",
        image_placeholder="<start_of_image>",
        image_text=PICTURE,
        frame_format="Frame {time:.2f}:" + PICTURE,
        visual_kind="image",
        settings=settings,
        encode=framed.encode,
        as_encoder_output=framed.as_encoder_output,
        positions=positions.of_text,
        unquantized=("model.vision_tower", "model.multi_modal_projector", "lm_head"),
        vision=shape,
        position_masks=True,
    ),
)
