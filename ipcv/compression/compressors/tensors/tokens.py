"""IPCV as pure tensor functions: split the tokens, find the neighbours of each dropped one, rebuild it from these.

Source: IPCV, arXiv 2512.18747. Everything here works on one packed sequence `[n, d]` of visual tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Blend = Literal["distance", "mean"]

CHUNK_BYTES = 64 * 2**20  # of the largest distance matrix in memory
TEMPERATURE = 0.3  # of the softmax that weights neighbours, in squared distances to the nearest one


@dataclass(frozen=True)
class Split:
    """The tokens at the pruning layer, divided into kept and dropped ones."""

    keep: Tensor  # [k] positions, ascending
    drop: Tensor  # [r] positions, ascending
    neighbors: Tensor  # [r, m] for each dropped token, its nearest kept tokens as rows of `kept`
    weights: Tensor | None  # [r, m] of these neighbours, adding up to 1; None: all equal
    kept: Tensor  # [k, d] states at the pruning layer
    dropped: Tensor  # [r, d]

    @classmethod
    def of(cls, states: Tensor, keep: Tensor, features: Tensor, neighbors: int, blend: Blend) -> "Split":
        """Divide `states` `[n, d]` at the ascending positions `keep` `[k]`.

        A dropped token is rebuilt from the `neighbors` kept ones that are nearest by `features` `[n, c]`. With
        `blend="mean"` they weigh the same, as in the paper; with `"distance"` nearer ones weigh more.
        """
        drop = positions(~mask_of(keep, len(states)), len(states) - len(keep))
        distances, near = nearest(features[drop], features[keep], neighbors)
        weights = None if blend == "mean" else distance_weights(distances).to(states.dtype)
        return cls(keep, drop, near, weights, states[keep], states[drop])

    def among(self, states: Tensor, patches: Tensor) -> "Split":
        """Extend this split of `patches` (positions, ascending) to all of `states` `[n, d]`: other tokens are kept."""
        drop = patches[self.drop]
        keep = positions(~mask_of(drop, len(states)), len(states) - len(drop))
        near = torch.searchsorted(keep, patches[self.keep])[self.neighbors]
        return Split(keep, drop, near, self.weights, states[keep], states[drop])

    def rebuild(self, kept: Tensor) -> Tensor:
        """Rebuild the dropped tokens `[r, d]`: each moves by the weighted mean change of its nearest kept tokens.

        `kept` `[k, d]` are the present states of the kept tokens. Neighbour-Guided Reconstruction, paper, section 3.
        """
        return self.dropped + self._mean(kept - self.kept)

    def average(self, kept: Tensor) -> Tensor:
        """Rows of all tokens, such as their keys, from those of the kept ones `[k, ...]`.

        A dropped token has the weighted mean of its nearest kept tokens' rows.
        """
        return self.join(kept, self._mean(kept.flatten(1)).view(-1, *kept.shape[1:]))

    def _mean(self, kept: Tensor) -> Tensor:
        """The weighted mean, for each dropped token, of its neighbours' rows among `kept` `[k, d]`."""
        if not len(self.drop):
            return kept[:0]
        mode = "mean" if self.weights is None else "sum"
        return F.embedding_bag(self.neighbors, kept, mode=mode, per_sample_weights=self.weights)

    def join(self, kept: Tensor, dropped: Tensor) -> Tensor:
        """Put rows of kept `[k, ...]` and of dropped tokens `[r, ...]` in their order among all tokens, `[n, ...]`."""
        everything = kept.new_empty(len(self.keep) + len(self.drop), *kept.shape[1:])
        return everything.index_copy_(0, self.keep, kept).index_copy_(0, self.drop, dropped)

    def restore(self, kept: Tensor) -> Tensor:
        """Rebuild all tokens `[n, d]` from the present states `[k, d]` of the kept ones."""
        return self.join(kept, self.rebuild(kept))


def positions(mask: Tensor, count: int) -> Tensor:
    """Positions where `mask` `[n]` is set, ascending; `count`, their number, spares a transfer from the device."""
    return mask.sort(stable=True, descending=True).indices[:count]


def nearest(queries: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find for each query `[r, d]` its `count` nearest points `[k, d]` by Euclidean distance, nearest first.

    Returns squared distances and indices, `[r, count]`, or `[r, k]` if there are fewer points. The distance matrix is
    made in chunks of rows of at most `CHUNK_BYTES`.
    """
    # a common offset does not change a distance; a large one, as some channels have, would drown it in float32
    centre = points.mean(0, dtype=torch.float32)
    points, queries = points.float() - centre, queries.float() - centre
    squares = points.square().sum(-1)
    found = [
        # the query's own norm does not change the order of its points
        torch.addmm(squares, rows, points.T, alpha=-2).topk(min(count, len(points)), largest=False)
        for rows in in_chunks(queries, len(points))
    ]
    distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return (distances + queries.square().sum(-1, keepdim=True)).clamp_min(0), indices


def distance_weights(distances: Tensor) -> Tensor:
    """Weights of neighbours at squared `distances` `[r, m]`, nearest first: a softmax, relative to the nearest one."""
    first = distances[:, :1]
    return ((first - distances) / (TEMPERATURE * first).clamp_min(1e-6)).softmax(-1)


def in_chunks(rows: Tensor, columns: int) -> tuple[Tensor, ...]:
    """Split `rows` `[n, d]` so that a float32 matrix of a chunk's rows × `columns` has at most `CHUNK_BYTES`."""
    return rows.split(max(1, CHUNK_BYTES // (4 * max(1, columns))))


def kept_bounds(bounds: Tensor, is_kept: Tensor) -> Tensor:
    """Segment bounds (`cu_seqlens`) of the rows of a packed sequence where `is_kept` `[n]`; a segment may be empty."""
    kept_before = F.pad(is_kept.cumsum(0, dtype=bounds.dtype), (1, 0))
    return kept_before[bounds]


def mask_of(rows: Tensor, count: int) -> Tensor:
    """A mask `[count]` that is set at `rows`."""
    return torch.zeros(count, dtype=torch.bool, device=rows.device).index_fill_(0, rows, True)
