"""The parts of a vision encoder that compression works with: its blocks, their attention, the order of patches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ipcv.architecture.grids import Grid, frame_sizes, window_order, window_sizes

Rotation = tuple[Tensor, Tensor] | None  # cosines and sines [rows, c] of the rows' positions
Heads = tuple[Tensor, Tensor, Tensor]  # queries [k, heads, c], keys [n, heads, c], values [n, heads, c]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The attention of a family's blocks, in parts: queries can be computed for fewer tokens than keys and values."""

    module: str  # name of the attention module in a block
    norm: str  # name of the norm before it
    scale: str = "scaling"  # name of its attribute with the factor on the logits
    project: Callable[[Any, Tensor, Tensor], Heads]  # (attention, normed [k, d], normed [n, d]): heads, not rotated
    output: Callable[[Any, Tensor], Any]  # (attention, mixed values [k, heads · c]): the module's output


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The vision encoder of a model, described for compression.

    Its blocks take the tokens as their first argument: packed `[n, d]`, with `cu_seqlens` by name, or one frame a row
    `[frames, m, d]`. Rotations come as `position_embeddings` by name, if the family has any. The tokens of a frame
    follow each other.
    """

    blocks: Sequence[nn.Module]
    attention: Attention
    patch_embedding: nn.Module  # or the encoder around it: called once per pass, before the blocks
    embedding: nn.Module | None = None  # the convolution in it, if it gets every patch by itself
    grids: Callable[..., Sequence[Grid]]  # (arguments of `patch_embedding`): the grids of this pass
    pixels: Callable[..., Tensor]  # (the same): of its patches, [n, channels, frames, height, width]
    pixel_range: float  # from black to white in these, as the family usually normalises them
    parts_videos: bool = False  # whether a grid is one video or image; else it may hold several images
    merge: int = 1  # patches per side of the squares in which they come
    window: int = 0  # patches per side of the windows in which they come; 0: there are none
    protected: int = 0  # tokens at the head of each frame that are no patches (CLS, registers): always kept
    deepstack: Mapping[int, nn.Module] = field(default_factory=dict)  # by block, DeepStack's merger behind it

    def frames(self, grids: Sequence[Grid]) -> list[int]:
        """The number of tokens in each frame."""
        return frame_sizes(grids, self.protected)

    def divisions(self, grids: Sequence[Grid]) -> list[list[int]]:
        """The segments that blocks attend within, by size: all frames and, where there are windows, all windows."""
        frames = self.frames(grids)
        return [frames, window_sizes(grids, self.window)] if self.window else [frames]

    def order(self, grids: Sequence[Grid], device: torch.device) -> Tensor | None:
        """The patch `[n]` that each token is, counted frame by frame in squares; None: tokens come in that order."""
        return window_order(grids, self.window, self.merge, device) if self.window else None


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys `[rows, heads, c]` turned to their positions, in float32 as the families do it."""
    if rotation is None:
        return heads
    cos, sin = (table[:, None].float() for table in rotation)
    first, second = heads.float().chunk(2, -1)
    return (heads * cos + torch.cat((-second, first), -1) * sin).to(heads.dtype)
