"""Tokens of a frame that merge and part again, as pure tensor functions: how ToMe does it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MergeGroups:
    """`f` frames of equally many patches in one pass, `n` tokens of each left."""

    sizes: Tensor  # [f, n] float32; how many patches each token stands for
    owners: Tensor  # [f, patches] the token that each patch is part of
    rotation: tuple[Tensor, Tensor]  # [f, n, w] each; cosines and sines of the tokens' positions

    @classmethod
    def of(cls, frames: int, patches: int, rotation: tuple[Tensor, Tensor]) -> "MergeGroups":
        """Every patch a token; `rotation` are tables `[frames * patches, w]`."""
        cos, sin = (table.view(frames, patches, -1) for table in rotation)
        owners = torch.arange(patches, device=cos.device).expand(frames, -1)
        return cls(torch.ones_like(owners, dtype=torch.float32), owners, (cos, sin))

    @property
    def bias(self) -> Tensor | None:
        """What attention adds to the logits `[f, heads, queries, n]`; `None` while there is nothing to add."""
        if self.sizes.shape == self.owners.shape:
            return None
        return self.sizes.log()[:, None, None]

    def merge(self, states: Tensor, keys: Tensor, count: int) -> tuple[Tensor, "MergeGroups"]:
        """`states` `[f, n, d]` once `count` tokens of each frame have merged into those with the most similar `keys`.

        `keys` are `[f, n, heads, w]`. Returns `[f, n - count, d]` and what describes them.
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
        """A state for every patch `[f, patches, d]` again, from those of the tokens `[f, n, d]`."""
        return states.gather(1, self.owners[..., None].expand(-1, -1, states.shape[-1]))


def match(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` pairs of an even and an odd token of each frame with the most similar `keys` `[f, n, w]`.

    Each even token has one candidate, the most similar odd one. Returns the even ones' positions and, for each, that
    of the odd one, both `[f, count]`, the most similar pair first.
    """
    unit = F.normalize(keys, dim=-1)
    best = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(-1)
    chosen = best.values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return 2 * chosen, 2 * best.indices.gather(1, chosen) + 1


def weighted_mean(states: Tensor, weights: Tensor, rows: Tensor, totals: Tensor) -> Tensor:
    """Means `[f, m, d]` of those `states` `[f, n, d]` that share a row, weighted.

    `weights` and `rows` (from 0 to `m - 1`) are `[f, n]`; `totals` `[f, m]` are the rows' sums of weights.
    """
    frames, tokens, width = states.shape
    rows = rows + totals.shape[1] * torch.arange(frames, device=rows.device)[:, None]
    order = rows.flatten().sort(stable=True)
    starts = torch.searchsorted(order.values, torch.arange(totals.numel(), device=rows.device))
    # a scattered sum would be another one every time on a GPU
    sums = F.embedding_bag(
        order.indices,
        states.reshape(frames * tokens, width).float(),
        starts,
        mode="sum",
        per_sample_weights=weights.flatten()[order.indices],
    )
    return (sums / totals.view(-1, 1)).to(states.dtype).view(frames, -1, width)
