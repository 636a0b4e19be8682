"""A model's vision encoder, as far as compression needs to know it: its blocks, and how they attend."""

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
    patch_embedding: nn.Module  # called once per pass, before the blocks, with what tells the sizes
    grids: Callable[..., Sequence[Grid]]  # these sizes, from its arguments
    merge: int = 1  # patches come in squares of so many a side
    window: int = 0  # patches come window by window, of so many a side at most; 0: there are none
    protected: int = 0  # tokens at the head of each frame that are no patches (CLS, registers): always kept
    deepstack: Mapping[int, nn.Module] = field(default_factory=dict)  # what reads the output of a block, by its number

    def frames(self, grids: Sequence[Grid]) -> list[int]:
        """Tokens of each frame."""
        return frame_sizes(grids, self.protected)

    def divisions(self, grids: Sequence[Grid]) -> list[list[int]]:
        """All that blocks attend within: tokens of each frame and, where there are windows, of each window."""
        frames = self.frames(grids)
        return [frames, window_sizes(grids, self.window)] if self.window else [frames]

    def parts(self, grids: Sequence[Grid]) -> list[int]:
        """Tokens of each of the smallest of these."""
        return self.divisions(grids)[-1]

    def order(self, grids: Sequence[Grid], device: torch.device) -> Tensor | None:
        """Which patch `[n]` each token is, counted frame by frame in squares; None: they come like that."""
        return window_order(grids, self.window, self.merge, device) if self.window else None


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys `[rows, heads, c]` turned to their positions, in float32 as the families do it."""
    if rotation is None:
        return heads
    cos, sin = (table[:, None].float() for table in rotation)
    first, second = heads.float().chunk(2, -1)
    return (heads * cos + torch.cat((-second, first), -1) * sin).to(heads.dtype)
