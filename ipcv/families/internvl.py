"""InternVL3: frames of one size, each with a class token that is never dropped; the prompt numbers them."""

from typing import Any

from torch import Tensor

from ipcv.architecture import positions
from ipcv.architecture.encoder import Attention, Encoder, Heads
from ipcv.architecture.fixed_size import StillSettings
from ipcv.architecture.shapes import VisionShape
from ipcv.errors import ModelError
from ipcv.families import framed
from ipcv.families.family import Family, Language


def _project(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    parts = (
        attention.q_norm(attention.q_proj(queries)),
        attention.k_norm(attention.k_proj(states)),
        attention.v_proj(states),
    )
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)) for part in parts)
    return query, key, value


ATTENTION = Attention(
    module="attention",
    norm="layernorm_before",
    scale="scale",
    project=_project,
    output=lambda attention, mixed: (attention.projection_dropout(attention.projection_layer(mixed)), None),
)


def encoder(model: Any) -> Encoder:
    """The encoder of `model`. Raises `ModelError` where compression cannot work."""
    if model.config.vision_feature_layer != -1:
        raise ModelError(
            f"this model reads its encoder's layer {model.config.vision_feature_layer}: compression is supported for "
            "models that read the last one"
        )
    tower = model.model.vision_tower
    side = tower.config.patch_size[0]
    return Encoder(
        blocks=tower.encoder.layer,
        attention=ATTENTION,
        patch_embedding=tower.embeddings,
        grids=framed.grids_of(side),
        pixels=framed.pixels_of(side),
        pixel_range=framed.IMAGENET_RANGE,
        protected=1,
    )


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision, text = config.vision_config, config.get_text_config()
    return VisionShape(
        blocks=vision.num_hidden_layers,
        width=vision.hidden_size,
        heads=vision.num_attention_heads,
        mlp_width=vision.intermediate_size,
        patch_values=vision.num_channels * vision.patch_size[0] * vision.patch_size[1],
        merge=int(1 / config.downsample_ratio) ** 2,
        hidden_width=text.hidden_size,
        out_width=text.hidden_size,
        head=1,
    )


FAMILY = Family(
    encoder=encoder,
    language=Language(
        placeholder="<video>",
        image_placeholder=None,
        frame_format="Frame{number}: <img><IMG_CONTEXT></img>",
        separator="\n",
        visual_kind="image",
        settings=lambda folder, config: StillSettings.from_folder(
            folder, config.vision_config, merge=int(1 / config.downsample_ratio)
        ),
        encode=framed.encode,
        as_encoder_output=framed.as_encoder_output,
        positions=positions.of_text,
        unquantized=("model.vision_tower", "model.multi_modal_projector", "lm_head"),
        vision=shape,
    ),
)
