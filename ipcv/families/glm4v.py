"""GLM-4.1V, 4.5V (with experts) and 4.6V: squares of patches merge by a convolution behind the blocks.

In the prompt every temporal patch is an image, and behind it stands the time of its first frame: in whole seconds
where the model came out with the processor of GLM-4.1V, and in tenths with that of GLM-4.6V, whatever its family.
"""

from dataclasses import replace
from typing import Any

from ipcv import positions
from ipcv.families import packed
from ipcv.families.family import Family
from ipcv.shapes import VisionShape

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


LANGUAGE = packed.LANGUAGE(
    placeholder="<|video|>",
    image="<|image|>",
    frame=FRAMES["Glm4vProcessor"],
    frames=FRAMES,
    moment="start",
    kind="image",
    positions=positions.of_frames,
    vision=shape,
)
FAMILY = Family(encoder=packed.encoder, language=LANGUAGE)
GLM46V = Family(encoder=packed.encoder, language=replace(LANGUAGE, frame=FRAMES["Glm46VProcessor"]))
