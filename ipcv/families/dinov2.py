"""DINOv2, an encoder alone: one frame a row, with a class token ahead."""

from typing import Any

from ipcv.architecture.encoder import Attention, Encoder
from ipcv.families import framed
from ipcv.families.family import Family

ATTENTION = Attention(
    module="attention",
    norm="norm1",
    project=framed.separate,
    output=lambda attention, mixed: (attention.o_proj(mixed), None),
)


def encoder(model: Any) -> Encoder:
    """`model` as an encoder for compression."""
    side = model.config.patch_size
    return Encoder(
        blocks=model.encoder.layer,
        attention=ATTENTION,
        patch_embedding=model.embeddings,
        grids=framed.grids_of(side),
        pixels=framed.pixels_of(side),
        pixel_range=framed.IMAGENET_RANGE,
        protected=1,
    )


FAMILY = Family(encoder=encoder)
