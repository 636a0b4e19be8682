"""GLM-4.1V, 4.5V (with experts) and 4.6V: squares of patches merge by a convolution behind the blocks.

In the prompt every temporal patch is an image, and behind it stands the time of its first frame: in whole seconds
where the model came out with the processor of GLM-4.1V, and in tenths with that of GLM-4.6V, whatever its family.
"""

from dataclasses import replace
from typing import Any

from ipcv.architecture import positions
from ipcv.architecture.shapes import TextShape, VisionShape
from ipcv.families import packed
from ipcv.families.family import Family

FRAME = "<|begin_of_image|><|image|><|end_of_image|>"
FRAMES = {"Glm4vProcessor": FRAME + "{second}", "Glm46VProcessor": FRAME + "{time:.1f} seconds"}


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    vision = config.vision_config
    return packed.shape(
        vision,
        width=vision.hidden_size,
        mlp_width=vision.out_hidden_size,
        mlp_parts=3,
        hidden_width=vision.out_hidden_size,
        gated_width=vision.intermediate_size,
        out_width=vision.out_hidden_size,
    )


def decoder(config: Any) -> TextShape:
    """The language model's sizes in its configuration. With experts, all tokens go through some of them."""
    if not getattr(config, "n_routed_experts", 0):
        return TextShape.of(config)
    return TextShape.of(
        config,
        sparse=tuple(range(config.first_k_dense_replace, config.num_hidden_layers)),
        expert_width=(config.num_experts_per_tok + config.n_shared_experts) * config.moe_intermediate_size,
        experts=config.n_routed_experts,
    )


LANGUAGE = packed.LANGUAGE(
    placeholder="<|video|>",
    image_placeholder="<|image|>",
    frame_format=FRAMES["Glm4vProcessor"],
    frame_formats=FRAMES,
    moment="start",
    visual_kind="image",
    positions=positions.of_frames,
    vision=shape,
    decoder=decoder,
)
FAMILY = Family(encoder=packed.encoder, language=LANGUAGE)
GLM46V = Family(encoder=packed.encoder, language=replace(LANGUAGE, frame_format=FRAMES["Glm46VProcessor"]))
