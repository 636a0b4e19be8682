"""LLaVA-OneVision: frames of one size through a SigLIP, pooled to 196 tokens each; a newline behind each video."""

from typing import Any

from torch import Tensor

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.fixed_size import StillSettings
from ipcv.architecture.grids import Grid
from ipcv.architecture.shapes import VisionShape
from ipcv.architecture.visual import Visual
from ipcv.errors import ModelError
from ipcv.families import framed, siglip
from ipcv.families.family import Family, Language

POOLED = 2  # patches per side of a token, fewer at the edges


def encoder(model: Any) -> Encoder:
    """The encoder of `model`. Raises `ModelError` where compression cannot work."""
    config = model.config
    if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "full":
        raise ModelError(
            f"this model reads its encoder's layer {config.vision_feature_layer} "
            f"({config.vision_feature_select_strategy}): compression is supported for models that read all of the last "
            "one"
        )
    if config.vision_config.model_type != "siglip_vision_model":
        raise ModelError(
            f"this model's encoder is a {config.vision_config.model_type!r}: a LLaVA-OneVision is supported with a "
            "SigLIP only"
        )
    return siglip.encoder(model.model.vision_tower)


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration. Every patch is projected; patches are pooled into tokens after that."""
    width = config.get_text_config().hidden_size
    return siglip.shape(config.vision_config, merge=1, hidden_width=width, out_width=width)


def encode(model: Any, pixels: Tensor, _: Grid) -> Visual:
    """Frames `[n, 3, height, width]` through the encoder, without the newline."""
    return framed.visual(model.get_video_features(pixels[None]).pooler_output[0, :-1])


FAMILY = Family(
    encoder=encoder,
    language=Language(
        placeholder="<video>",
        image_placeholder=None,
        newline=lambda model: model.model.image_newline,
        settings=lambda folder, config: StillSettings.from_folder(
            folder, config.vision_config, merge=POOLED, is_pooled=True
        ),
        encode=encode,
        as_encoder_output=framed.as_encoder_output,
        positions=positions.of_text,
        # as the modules are called, and the weights of published models
        unquantized=(
            "model.vision_tower",
            "vision_tower",
            "model.multi_modal_projector",
            "multi_modal_projector",
            "lm_head",
        ),
        vision=shape,
    ),
)
