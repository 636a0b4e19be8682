"""Where each model family keeps its vision encoder, and how its attention works: one entry each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ipcv.errors import ModelError

Grid = tuple[int, int, int]  # frames, rows and columns of patches
Rotation = tuple[Tensor, Tensor] | None  # cosines and sines [rows, c] of the rows' positions
Heads = tuple[Tensor, Tensor, Tensor]  # queries [k, heads, c], keys [n, heads, c], values [n, heads, c]


@dataclass(frozen=True)
class Attention:
    """How a family's blocks attend, so that queries can be had of fewer tokens than keys and values."""

    module: str  # the block's attention
    norm: str  # the norm before it
    project: Callable[[Any, Tensor, Tensor], Heads]  # (attention, normed [k, d], normed [n, d]): nothing rotated
    output: Callable[[Any, Tensor], Any]  # (attention, mixed values [k, heads · c]): what the module returns


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A vision encoder, as far as compression needs to know it.

    Its blocks take the tokens first: packed ones `[n, d]`, with `cu_seqlens` by name, or one frame a row `[frames, m,
    d]`. Rotations come as `position_embeddings` by name, where the family has any.
    """

    blocks: Sequence[nn.Module]
    attention: Attention
    entrance: nn.Module  # called once per pass, before the blocks, with what tells the sizes
    grids: Callable[..., Sequence[Grid]]  # these sizes, from its arguments
    merge: int = 1  # patches come in squares of so many a side
    protected: int = 0  # tokens at the head of each frame that are no patches (CLS, registers): always kept


def _fused(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    width = attention.qkv.in_features
    weights, biases = attention.qkv.weight.split((width, 2 * width)), attention.qkv.bias.split((width, 2 * width))
    query = F.linear(queries, weights[0], biases[0]).unflatten(-1, (attention.num_heads, -1))
    both = F.linear(states, weights[1], biases[1]).unflatten(-1, (2, attention.num_heads, -1))
    return query, both[:, 0], both[:, 1]


def _separate(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    parts = (attention.q_proj(queries), attention.k_proj(states), attention.v_proj(states))
    query, key, value = (part.unflatten(-1, (-1, attention.head_dim)) for part in parts)
    return query, key, value


QWEN2_VL = Attention("attn", "norm1", _fused, lambda attention, mixed: attention.proj(mixed))
DINOV2 = Attention("attention", "norm1", _separate, lambda attention, mixed: (attention.o_proj(mixed), None))


def _qwen2_vl(model: Any) -> Encoder:
    tower = model.model.visual

    def grids(_: Tensor, grid_thw: Tensor, **__: Any) -> Sequence[Grid]:
        return [(frames, rows, columns) for frames, rows, columns in grid_thw.tolist()]

    return Encoder(blocks=tower.blocks, attention=QWEN2_VL, entrance=tower, grids=grids, merge=tower.spatial_merge_size)


def _dinov2(model: Any) -> Encoder:
    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // model.config.patch_size, width // model.config.patch_size)]

    return Encoder(blocks=model.encoder.layer, attention=DINOV2, entrance=model.embeddings, grids=grids, protected=1)


ENCODERS: dict[str, Callable[[Any], Encoder]] = {"qwen2_vl": _qwen2_vl, "dinov2": _dinov2}
LANGUAGE = ("qwen2_vl",)  # those that also answer


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys `[rows, heads, c]` turned to their positions, in float32 as the families do it."""
    if rotation is None:
        return heads
    cos, sin = (table[:, None].float() for table in rotation)
    first, second = heads.float().chunk(2, -1)
    return (heads * cos + torch.cat((-second, first), -1) * sin).to(heads.dtype)


def segment_bounds(states: Tensor, named: dict[str, Any]) -> Tensor:
    """Bounds `[segments + 1]` (`cu_seqlens`) within which a block lets `states` attend, called with `named`."""
    bounds: Tensor | None = named.get("cu_seqlens")
    if bounds is not None:
        return bounds
    frames, tokens = states.shape[:2]
    return torch.arange(frames + 1, dtype=torch.int32, device=states.device) * tokens


def find_encoder(model: PreTrainedModel) -> Encoder:
    """The vision encoder of `model`. Raises `ModelError` for a family that is not supported, naming those that are."""
    return ENCODERS[_check(model.config.model_type, tuple(ENCODERS), "its encoder's layout is not known here")](model)


def check_family(family: str) -> str:
    """`family` (a config's `model_type`) if it can answer here, else `ModelError` with those that can."""
    return _check(family, LANGUAGE, "it is not known here how it answers")


def _check(family: str, known: Sequence[str], why: str) -> str:
    if family not in known:
        raise ModelError(f"model family {family!r} is not supported: {why}; supported: {', '.join(sorted(known))}")
    return family
