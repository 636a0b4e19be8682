"""Tensor functions that several reducers share: similarity over time, ranks. All compare in float32."""

import torch.nn.functional as F
from torch import Tensor


def likeness(tokens: Tensor) -> Tensor:
    """Cosine similarity `[t - 1, m]` of `tokens` `[t, m, d]` to the one at their place in the temporal patch before."""
    unit = F.normalize(tokens.float(), dim=-1)
    return (unit[1:] * unit[:-1]).sum(-1)


def likeness_flops(frames: int, tokens: int, width: int) -> int:
    """FLOPs of `likeness` for `tokens` of `width` values in each of `frames` temporal patches."""
    unit = 3 * frames * tokens * width  # square, sum, division
    return unit + 2 * (frames - 1) * tokens * width


def ranks(scores: Tensor) -> Tensor:
    """The place of each score among those of its row `[t, m]`, the lowest first, equal ones in their order."""
    return scores.sort(dim=1, stable=True).indices.argsort(dim=1)
