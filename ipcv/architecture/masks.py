"""Attention masks for tokens that see windows or pictures and not all tokens before them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def token_table(positions: Tensor, is_visual: Tensor) -> Tensor:
    """Positions `[n]` of tokens and the picture that each is of, -1 for text, as one tensor `[2, n]`.

    Visual tokens that follow each other are of one picture: between two there is text.
    """
    first = is_visual & ~F.pad(is_visual, (1, 0))[:-1]
    pictures = torch.where(is_visual, first.cumsum(0) - 1, -1)
    return torch.stack([positions.to(pictures.device), pictures])


def attention_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """Which of `keys` `[2, n]` each of `queries` `[2, m]` attends to: a mask `[m, n]`. `window` 0: there is none."""
    (place, picture), (other, of) = queries[:, :, None], keys
    seen = (other <= place) | ((of == picture) & (of >= 0))
    return seen & (other > place - window) if window else seen


def kernel_mask(seen: Tensor, kernel: str, dtype: torch.dtype) -> Tensor:
    """A mask `[..., m, n]` as an attention kernel wants it: added to the logits, or as it is."""
    if "flash" in kernel:
        raise ValueError("flash attention knows no masks for pictures and windows by position: use sdpa or eager")
    if kernel != "eager":
        return seen
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
