"""Positions of a prompt's tokens, and multimodal rotary ones (M-RoPE) where transformers gets them wrong.

The models' authors continue the text after an image or a video at the largest position it used, plus one.
transformers 5.x continues a Qwen2-VL or Qwen2.5-VL prompt at the visual span's start plus half its larger side,
which overlaps with the span's own positions as soon as it has more temporal patches than that.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ipcv.grids import Grid


def prompt_positions(model: PreTrainedModel, ids: Tensor, types: Tensor, **grids: Any) -> Tensor:
    """Position ids `[3, 1, length]` of one prompt, right whether or not the installed transformers gets them right.

    `ids` and `types` are `[1, length]`; `types` is 0 for text, 1 for image and 2 for video tokens; `grids` are
    `image_grid_thw` and `video_grid_thw`, `[n, 3]`, and `second_per_grid_ts`, as the model takes them.
    """
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=types, **grids)
    return without_overlap(positions, types[0])


def of_grid(model: PreTrainedModel, ids: Tensor, types: Tensor, grid: Grid, _: Sequence[float]) -> Tensor:
    """Position ids `[3, 1, length]` of a prompt with one video: temporal patch, row and column, whatever its times."""
    return prompt_positions(model, ids, types, video_grid_thw=torch.tensor([grid]))


def of_timed_grid(model: Any, ids: Tensor, types: Tensor, grid: Grid, times: Sequence[float]) -> Tensor:
    """The same where a temporal patch's position is its time (Qwen2.5-VL), that of its first frame among `times`.

    `times` are the frames', in seconds. At a steady rate positions are those that the model was trained with, multiples
    of one interval rounded down. Where a patch is half a step or more away from its multiple, as in a video with gaps,
    all go by their own times.
    """
    starts = torch.tensor(times[:: len(times) // grid[0]], dtype=torch.float64) - times[0]
    steps = grid[0] - 1
    interval = round(float(starts[-1]) / steps, 3) if steps else 0.0  # times are kept to the millisecond
    positions, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=types, video_grid_thw=torch.tensor([grid]), second_per_grid_ts=[interval]
    )
    own = starts * model.config.vision_config.tokens_per_second
    steady = interval * torch.arange(grid[0], dtype=torch.float64) * model.config.vision_config.tokens_per_second
    if (own - steady).abs().max() >= 0.5:
        video = types[0] != 0
        first = positions[0, 0, video].min()
        positions[0, 0, video] = first + own.long().repeat_interleave(int(video.sum()) // grid[0])
    return without_overlap(positions, types[0])


def of_text(_: Any, ids: Tensor, *__: Any) -> Tensor:
    """Position ids `[1, length]` of a prompt in which visual tokens count like words."""
    return torch.arange(ids.shape[1])[None]


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
    """Position `[3, 1, 1]`, or `[1, 1]`, of the token that follows a prompt with `positions` `[3, 1, length]`."""
    return (positions.max() + 1).expand(*positions.shape[:-1], 1)
