"""Attention masks for tokens that see windows or pictures and not all tokens before them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def token_table(positions: Tensor, is_visual: Tensor) -> Tensor:
    """Positions `[n]` of tokens, and the number of the picture that each belongs to, as one tensor `[2, n]`.

    Text has picture number -1. Visual tokens that follow each other belong to one picture: between two there is text.
    """
    first = is_visual & ~F.pad(is_visual, (1, 0))[:-1]
    pictures = torch.where(is_visual, first.cumsum(0) - 1, -1)
    return torch.stack([positions.to(pictures.device), pictures])


def attention_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """Which of the keys each query attends to, `[m, n]`, from their token tables `[2, m]` and `[2, n]`.

    A token attends to all tokens at its position or before, within the last `window` positions where this is not 0,
    and to all tokens of its own picture.
    """
    (place, picture), (other, of) = queries[:, :, None], keys
    seen = (other <= place) | ((of == picture) & (of >= 0))
    return seen & (other > place - window) if window else seen


def kernel_mask(seen: Tensor, kernel: str, dtype: torch.dtype) -> Tensor:
    """Masks `[batch, m, n]`, true where a query attends to a key, in the form that an attention kernel takes.

    Eager attention adds `[batch, 1, m, n]` to the logits, sdpa takes the same shape as it is, and flash attention takes
    `[batch, n]`. The latter is possible for a single query only; for more this raises `ValueError`.
    """
    if "flash" in kernel:
        if seen.shape[1] > 1:
            raise ValueError("flash attention knows no masks for pictures and windows by position: use sdpa or eager")
        return seen[:, 0]
    seen = seen[:, None]
    if kernel != "eager":
        return seen
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
