"""Multimodal rotary positions (M-RoPE) where transformers gets them wrong.

The models' authors continue the text after an image or a video at the largest position it used, plus one.
transformers 5.x continues a Qwen2-VL or Qwen2.5-VL prompt at the visual span's start plus half its larger side,
which overlaps with the span's own positions as soon as it has more temporal patches than that.
"""

from itertools import pairwise
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


def prompt_positions(model: PreTrainedModel, ids: Tensor, types: Tensor, **grids: Any) -> Tensor:
    """Position ids `[3, 1, length]` of one prompt, right whether or not the installed transformers gets them right.

    `ids` and `types` are `[1, length]`; `types` is 0 for text, 1 for image and 2 for video tokens; `grids` are
    `image_grid_thw` and `video_grid_thw`, `[n, 3]`, as the model takes them.
    """
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=types, **grids)
    return without_overlap(positions, types[0])


def without_overlap(positions: Tensor, types: Tensor) -> Tensor:
    """Shift everything behind each visual span so that it continues at the span's largest position plus one.

    `positions` `[3, 1, length]`, `types` `[length]` as above. Positions that are right already stay as they are.
    """
    positions = positions.clone()
    starts = [0, *(types.diff().nonzero()[:, 0] + 1).tolist()]
    for start, end in pairwise(starts):
        if types[start] != 0:
            gap = positions[:, :, start:end].max() + 1 - positions[:, :, end].min()
            positions[:, :, end:] += gap
    return positions


def next_positions(positions: Tensor) -> Tensor:
    """Position `[3, 1, 1]` of the token that follows a prompt with `positions` `[3, 1, length]`."""
    return (positions.max() + 1).expand(3, 1, 1)
