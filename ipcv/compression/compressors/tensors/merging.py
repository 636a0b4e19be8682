"""Merge similar tokens of a frame, and give every patch its token back: ToMe as pure tensor functions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MergeGroups:
    """The merged state of `f` frames of equal size in one pass, each with `n` tokens left."""

    sizes: Tensor  # [f, n] float32; how many patches each token stands for
    owners: Tensor  # [f, patches] the token that each patch is part of
    rotation: tuple[Tensor, Tensor]  # [f, n, w] each; cosines and sines of the tokens' positions

    @classmethod
    def of(cls, frames: int, patches: int, rotation: tuple[Tensor, Tensor]) -> "MergeGroups":
        """Start with every patch a token of its own; `rotation` are tables `[frames * patches, w]`."""
        cos, sin = (table.view(frames, patches, -1) for table in rotation)
        owners = torch.arange(patches, device=cos.device).expand(frames, -1)
        return cls(torch.ones_like(owners, dtype=torch.float32), owners, (cos, sin))

    @property
    def bias(self) -> Tensor | None:
        """The term that attention adds to its logits `[f, heads, queries, n]`; None before the first merge."""
        if self.sizes.shape == self.owners.shape:
            return None
        return self.sizes.log()[:, None, None]

    def merge(self, states: Tensor, keys: Tensor, count: int) -> tuple[Tensor, "MergeGroups"]:
        """Merge `count` tokens of each frame into those with the most similar `keys` `[f, n, heads, w]`.

        Returns the states `[f, n - count, d]` of the tokens left, from `states` `[f, n, d]`, and their groups.
        """
        source, target = match(keys.mean(2, dtype=torch.float32), count)
        is_gone = torch.zeros_like(self.sizes, dtype=torch.bool).scatter(1, source, value=True)
        left = is_gone.sort(dim=1, stable=True).indices[:, : states.shape[1] - count]
        rows = is_gone.logical_not().cumsum(1) - 1
        rows = rows.scatter(1, source, rows.gather(1, target))
        sizes = self.sizes.scatter_add(1, target, self.sizes.gather(1, source)).gather(1, left)
        cos, sin = (table.gather(1, left[..., None].expand(-1, -1, table.shape[-1])) for table in self.rotation)
        merged = weighted_mean(states, self.sizes, rows, sizes)
        return merged, MergeGroups(sizes, rows.gather(1, self.owners), (cos, sin))

    def part(self, states: Tensor) -> Tensor:
        """Give every patch the state of its token: `[f, patches, d]` from `[f, n, d]`."""
        return states.gather(1, self.owners[..., None].expand(-1, -1, states.shape[-1]))


def match(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find, in each frame, the `count` pairs of an even and an odd token with the most similar `keys` `[f, n, w]`.

    An even token is only paired with the odd token most similar to it. Returns positions of the even and of the odd
    tokens, both `[f, count]`, the most similar pair first.
    """
    unit = F.normalize(keys, dim=-1)
    best = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(-1)
    chosen = best.values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return 2 * chosen, 2 * best.indices.gather(1, chosen) + 1


def weighted_mean(states: Tensor, weights: Tensor, rows: Tensor, totals: Tensor) -> Tensor:
    """Weighted means `[f, m, d]` of the `states` `[f, n, d]` that go into the same row.

    `weights` and `rows` (from 0 to `m - 1`) are `[f, n]`; `totals` `[f, m]` are the sums of weights per row.
    """
    frames, tokens, width = states.shape
    rows = rows + totals.shape[1] * torch.arange(frames, device=rows.device)[:, None]
    order = rows.flatten().sort(stable=True)
    starts = torch.searchsorted(order.values, torch.arange(totals.numel(), device=rows.device))
    # a scattered sum is not deterministic on a GPU
    sums = F.embedding_bag(
        order.indices,
        states.reshape(frames * tokens, width).float(),
        starts,
        mode="sum",
        per_sample_weights=weights.flatten()[order.indices],
    )
    return (sums / totals.view(-1, 1)).to(states.dtype).view(frames, -1, width)
