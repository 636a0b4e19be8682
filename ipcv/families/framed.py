"""Shared by families whose encoders take frames of one fixed size, one frame a row."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ipcv.architecture.encoder import Heads
from ipcv.architecture.grids import Grid
from ipcv.architecture.internals import encoder_output
from ipcv.architecture.visual import Visual

HALF_RANGE = 2.0  # of pixels normalised to be between -1 and 1
IMAGENET_RANGE = 1 / 0.2260  # of pixels normalised as for ImageNet, on the mean of the channels


def grids_of(side: int) -> Callable[..., Sequence[Grid]]:
    """The function of an encoder's input `[n, 3, height, width]` that gives its grid, for patches of `side` pixels."""

    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // side, width // side)]

    return grids


def pixels_of(side: int) -> Callable[..., Tensor]:
    """The function of an encoder's input that gives its patches `[n, 3, 1, side, side]`, row by row."""

    def pixels(pixel_values: Tensor, **_: Any) -> Tensor:
        patches = pixel_values.unfold(2, side, side).unfold(3, side, side)  # [frames, 3, rows, columns, side, side]
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:, :, None]

    return pixels


def separate(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    """Queries, keys and values by a projection each."""
    parts = (attention.q_proj(queries), attention.k_proj(states), attention.v_proj(states))
    query, key, value = (part.unflatten(-1, (-1, attention.head_dim)) for part in parts)
    return query, key, value


def encode(model: Any, pixels: Tensor, _: Grid) -> Visual:
    """Frames `[n, 3, height, width]` through the encoder."""
    return visual(model.get_image_features(pixels).pooler_output.flatten(0, 1))


def visual(tokens: Tensor) -> Visual:
    """Visual tokens `[n, d]` without features for DeepStack."""
    return Visual(tokens, tokens.new_empty(0, *tokens.shape))


def as_encoder_output(visual: Visual) -> Any:
    """Wrap `visual` as the model's forward expects encoder output."""
    return encoder_output(visual.tokens[None])
