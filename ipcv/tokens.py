"""The method as pure tensor functions: choose tokens, find their neighbours, restore the rest.

Source: IPCV, arXiv 2512.18747. Everything here works on one packed sequence `[n, d]` of visual tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Select = Literal["change"]
Blend = Literal["mean"]

CHUNK_BYTES = 64 * 2**20  # largest distance matrix held at a time


@dataclass(frozen=True)
class Split:
    """The stream at the pruning layer, divided into kept and dropped tokens."""

    keep: Tensor  # [k] positions, ascending
    drop: Tensor  # [r] positions, ascending
    neighbors: Tensor  # [r, m] for each dropped token, its nearest kept tokens as rows of `kept`
    kept: Tensor  # [k, d] states at the pruning layer
    dropped: Tensor  # [r, d]

    @classmethod
    def of(cls, states: Tensor, keep: Tensor, neighbors: int) -> "Split":
        """Divide `states` `[n, d]` at the ascending positions `keep` `[k]`."""
        is_dropped = torch.ones(len(states), dtype=torch.bool, device=states.device)
        is_dropped[keep] = False
        # a stable sort puts the dropped positions first without asking the device how many there are
        drop = is_dropped.logical_not().sort(stable=True).indices[: len(states) - len(keep)]
        kept, dropped = states[keep], states[drop]
        return cls(keep, drop, nearest(dropped, kept, neighbors), kept, dropped)

    def restore(self, kept: Tensor) -> Tensor:
        """All tokens `[n, d]` again: each dropped one moves by the mean change of its nearest kept tokens.

        `kept` `[k, d]` are the kept tokens now. Neighbour-Guided Reconstruction, section 3 of the paper.
        """
        change = F.embedding_bag(self.neighbors, kept - self.kept, mode="mean")
        return self.spread(kept).index_copy_(0, self.drop, self.dropped + change)

    def spread(self, kept: Tensor) -> Tensor:
        """`kept` `[k, d]` at its places among all tokens `[n, d]`, zeros elsewhere."""
        everything = kept.new_zeros(len(self.keep) + len(self.drop), kept.shape[-1])
        return everything.index_copy_(0, self.keep, kept)


def kept_count(tokens: int, keep: float) -> int:
    """How many of `tokens` are kept at the share `keep`: rounded down, as in the paper's code."""
    return int(tokens * keep)


def most_changed(before: Tensor, after: Tensor, count: int) -> Tensor:
    """Positions `[count]`, ascending, of the tokens that one block changed most (L2 norm of its update).

    `before` and `after` are the block's input and output, `[n, d]`.
    """
    change = torch.linalg.vector_norm(after - before, dim=-1, dtype=torch.float32)
    return change.topk(count).indices.sort().values


def nearest(queries: Tensor, points: Tensor, count: int) -> Tensor:
    """For each query `[r, d]` its `count` nearest points `[k, d]` by Euclidean distance, nearest first: `[r, count]`.

    At most `k` are returned. The distance matrix is made in row chunks of at most `CHUNK_BYTES`.
    """
    count = min(count, len(points))
    rows = max(1, CHUNK_BYTES // (4 * max(1, len(points))))
    # a common offset does not change a distance; a large one, as some channels have, would drown it in float32
    centre = points.mean(0, dtype=torch.float32)
    points = points.float() - centre
    # the query's own norm does not change the order of its points
    squares = points.square().sum(-1)
    chunks = [
        torch.addmm(squares, chunk.float() - centre, points.T, alpha=-2).topk(count, largest=False).indices
        for chunk in queries.split(rows)
    ]
    return torch.cat(chunks) if chunks else queries.new_empty(0, count, dtype=torch.long)


def kept_bounds(bounds: Tensor, keep: Tensor, length: int) -> Tensor:
    """Segment bounds (`cu_seqlens`) of a packed sequence once only `keep` is left; empty segments vanish."""
    is_kept = torch.zeros(length, dtype=bounds.dtype, device=bounds.device).scatter(0, keep, 1)
    kept_before = F.pad(is_kept.cumsum(0, dtype=bounds.dtype), (1, 0))
    return kept_before[bounds].unique_consecutive()
