"""Where each model family keeps its vision encoder, and how its attention works: one entry each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipcv.errors import ModelError
from ipcv.grids import Grid, frame_sizes, window_order, window_sizes

Rotation = tuple[Tensor, Tensor] | None  # cosines and sines [rows, c] of the rows' positions
Heads = tuple[Tensor, Tensor, Tensor]  # queries [k, heads, c], keys [n, heads, c], values [n, heads, c]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """How a family's blocks attend, so that queries can be had of fewer tokens than keys and values."""

    module: str  # the block's attention
    norm: str  # the norm before it
    scale: str = "scaling"  # its field with the factor on the logits
    project: Callable[[Any, Tensor, Tensor], Heads]  # (attention, normed [k, d], normed [n, d]): nothing rotated
    output: Callable[[Any, Tensor], Any]  # (attention, mixed values [k, heads · c]): what the module returns


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A vision encoder, as far as compression needs to know it.

    Its blocks take the tokens first: packed ones `[n, d]`, with `cu_seqlens` by name, or one frame a row `[frames, m,
    d]`. Rotations come as `position_embeddings` by name, where the family has any. A frame's tokens follow each other.
    """

    blocks: Sequence[nn.Module]
    attention: Attention
    entrance: nn.Module  # called once per pass, before the blocks, with what tells the sizes
    grids: Callable[..., Sequence[Grid]]  # these sizes, from its arguments
    merge: int = 1  # patches come in squares of so many a side
    window: int = 0  # patches come window by window, of so many a side at most; 0: there are none
    protected: int = 0  # tokens at the head of each frame that are no patches (CLS, registers): always kept
    taps: Mapping[int, nn.Module] = field(default_factory=dict)  # what reads the output of a block, by its number

    def frames(self, grids: Sequence[Grid]) -> list[int]:
        """Tokens of each frame."""
        return frame_sizes(grids, self.protected)

    def parts(self, grids: Sequence[Grid]) -> list[int]:
        """Tokens of the smallest parts within which blocks attend: of each window, or of each frame."""
        return window_sizes(grids, self.window) if self.window else self.frames(grids)

    def order(self, grids: Sequence[Grid], device: torch.device) -> Tensor | None:
        """Which patch `[n]` each token is, counted frame by frame in squares; None: they come like that."""
        return window_order(grids, self.window, self.merge, device) if self.window else None


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


def _normed(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    parts = (
        attention.q_norm(attention.q_proj(queries)),
        attention.k_norm(attention.k_proj(states)),
        attention.v_proj(states),
    )
    query, key, value = (part.unflatten(-1, (attention.num_heads, -1)) for part in parts)
    return query, key, value


QWEN = Attention(module="attn", norm="norm1", project=_fused, output=lambda attention, mixed: attention.proj(mixed))
DINOV2 = Attention(
    module="attention",
    norm="norm1",
    project=_separate,
    output=lambda attention, mixed: (attention.o_proj(mixed), None),
)


INTERNVL = Attention(
    module="attention",
    norm="layernorm_before",
    scale="scale",
    project=_normed,
    output=lambda attention, mixed: (attention.projection_dropout(attention.projection_layer(mixed)), None),
)


def _qwen(model: Any, **more: Any) -> Encoder:
    tower = model.model.visual

    def grids(_: Tensor, grid_thw: Tensor, **__: Any) -> Sequence[Grid]:
        return [(frames, rows, columns) for frames, rows, columns in grid_thw.tolist()]

    merge = tower.spatial_merge_size
    return Encoder(blocks=tower.blocks, attention=QWEN, entrance=tower, grids=grids, merge=merge, **more)


def qwen2_vl(model: Any) -> Encoder:
    """Qwen2-VL: frames packed, rotated."""
    return _qwen(model)


def qwen2_5_vl(model: Any) -> Encoder:
    """Qwen2.5-VL: most blocks attend within windows, and the tokens come in their order."""
    tower = model.model.visual
    squares = tower.window_size // tower.spatial_merge_size // tower.patch_size
    return _qwen(model, window=squares * tower.spatial_merge_size)


def qwen3_vl(model: Any) -> Encoder:
    """Qwen3-VL: visual tokens are also made of what some of the blocks give (DeepStack)."""
    tower = model.model.visual
    return _qwen(model, taps=dict(zip(tower.deepstack_visual_indexes, tower.deepstack_merger_list, strict=True)))


def dinov2(model: Any) -> Encoder:
    """DINOv2: one frame a row, with a class token ahead."""

    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // model.config.patch_size, width // model.config.patch_size)]

    return Encoder(blocks=model.encoder.layer, attention=DINOV2, entrance=model.embeddings, grids=grids, protected=1)


def internvl(model: Any) -> Encoder:
    """InternVL: frames of one size, one a row, with a class token ahead. Raises `ModelError` where it cannot work."""
    if model.config.vision_feature_layer != -1:
        raise ModelError(
            f"this model reads its encoder's layer {model.config.vision_feature_layer}: compression is supported for "
            "models that read the last one"
        )
    tower = model.model.vision_tower

    def grids(pixel_values: Tensor, **_: Any) -> Sequence[Grid]:
        frames, height, width = len(pixel_values), *pixel_values.shape[2:]
        return [(frames, height // tower.config.patch_size[0], width // tower.config.patch_size[1])]

    return Encoder(blocks=tower.encoder.layer, attention=INTERNVL, entrance=tower.embeddings, grids=grids, protected=1)


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys `[rows, heads, c]` turned to their positions, in float32 as the families do it."""
    if rotation is None:
        return heads
    cos, sin = (table[:, None].float() for table in rotation)
    first, second = heads.float().chunk(2, -1)
    return (heads * cos + torch.cat((-second, first), -1) * sin).to(heads.dtype)
