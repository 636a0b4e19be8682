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

from ipcv.architecture.grids import Grid
from ipcv.architecture.internals import rope_index
from ipcv.architecture.visual import VisualSpan


def prompt_positions(model: PreTrainedModel, ids: Tensor, types: Tensor, **grids: Any) -> Tensor:
    """Position ids `[3, 1, length]` of one prompt, right whether or not the installed transformers gets them right.

    `ids` and `types` are `[1, length]`; `types` is 0 for text, 1 for image and 2 for video tokens; `grids` are
    `image_grid_thw` and `video_grid_thw`, `[n, 3]`, and `second_per_grid_ts`, as the model takes them.
    """
    return without_overlap(rope_index(model, ids, types, **grids), types[0])


def of_grid(model: PreTrainedModel, ids: Tensor, types: Tensor, spans: Sequence[VisualSpan]) -> Tensor:
    """Position ids `[3, 1, length]` of a prompt by temporal patch, row and column; times play no part."""
    return prompt_positions(model, ids, types, **_grids(spans))


def of_frames(model: PreTrainedModel, ids: Tensor, types: Tensor, spans: Sequence[VisualSpan]) -> Tensor:
    """Position ids `[3, 1, length]` of a prompt in which every temporal patch counts as an image (GLM)."""
    grids = [(1, *each.grid[1:]) for each in spans for _ in range(each.grid[0])]
    return prompt_positions(model, ids, types, image_grid_thw=torch.tensor(grids))


def of_timed_grid(model: Any, ids: Tensor, types: Tensor, spans: Sequence[VisualSpan]) -> Tensor:
    """Position ids `[3, 1, length]` where a temporal patch's position is the time of its first frame (Qwen2.5-VL).

    At a steady rate positions are those that the model was trained with, multiples of one interval rounded down. Where
    a patch is half a step or more away from its multiple, as in a video with gaps, all go by their own times.
    """
    pace = model.config.vision_config.tokens_per_second
    starts = [_starts(each) for each in spans]
    intervals = [_interval(each) for each in starts]
    timed = [interval for interval, each in zip(intervals, spans, strict=True) if each.kind == "video"]
    positions = rope_index(model, ids, types, **_grids(spans), **({"second_per_grid_ts": timed} if timed else {}))
    places = (types[0] != 0).nonzero()[:, 0].split([each.tokens for each in spans])
    for each, place, start, interval in zip(spans, places, starts, intervals, strict=True):
        own, steady = start * pace, interval * torch.arange(len(start), dtype=torch.float64) * pace
        if (own - steady).abs().max() >= 0.5:
            first = positions[0, 0, place].min()
            positions[0, 0, place] = first + own.long().repeat_interleave(each.tokens // len(start))
    return without_overlap(positions, types[0])


def _grids(spans: Sequence[VisualSpan]) -> dict[str, Tensor]:
    """Temporal patches, rows and columns `[n, 3]`, by kind, as models take them."""
    found: dict[str, list[Grid]] = {}
    for each in spans:
        found.setdefault(f"{each.kind}_grid_thw", []).append(each.grid)
    return {name: torch.tensor(grids) for name, grids in found.items()}


def _starts(span: VisualSpan) -> Tensor:
    """The start of each temporal patch, in seconds after the first."""
    return torch.tensor(span.moments("start"), dtype=torch.float64) - span.times[0]


def _interval(starts: Tensor) -> float:
    """Seconds from one temporal patch to the next, on average; times are kept to the millisecond."""
    return round(float(starts[-1]) / (len(starts) - 1), 3) if len(starts) > 1 else 0.0


def of_text(_: Any, ids: Tensor, *__: Any) -> Tensor:
    """Position ids `[1, length]` of a prompt in which visual tokens count like words."""
    return torch.arange(ids.shape[1])[None]


def without_overlap(positions: Tensor, types: Tensor) -> Tensor:
    """Shift everything behind each visual span so that it continues at the span's largest position plus one.

    `positions` are `[3, 1, length]`, `types` `[length]`, 0 for text. Positions that are right already stay as they are.
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
