"""DINOv2, an encoder alone: one frame a row, with a class token ahead."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ipcv.architecture.encoder import Attention, Encoder
from ipcv.architecture.grids import Grid
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

    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // model.config.patch_size, width // model.config.patch_size)]

    return Encoder(
        blocks=model.encoder.layer, attention=ATTENTION, patch_embedding=model.embeddings, grids=grids, protected=1
    )


FAMILY = Family(encoder=encoder)
