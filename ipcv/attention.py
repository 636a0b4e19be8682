"""Attention of some tokens over others, segment by segment (frames, windows), in one kernel call."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import is_flash_attention_requested


@dataclass(frozen=True)
class Segments:
    """How packed rows `[n, ...]` divide into segments; a segment may be empty."""

    bounds: Tensor  # [s + 1] int32
    longest: int  # rows of the longest segment
    slots: Tensor  # [n] row of each token once every segment is padded to `longest`

    @classmethod
    def of(cls, bounds: Tensor, rows: int) -> "Segments":
        """The segments of `rows` rows between `bounds` `[s + 1]`; asks the device how long the longest one is."""
        longest = int(bounds.diff().max())
        places = torch.arange(rows, device=bounds.device)
        owner = torch.searchsorted(bounds, places, right=True) - 1
        return cls(bounds.int(), longest, owner * longest + places - bounds[owner])

    @property
    def count(self) -> int:
        """How many segments."""
        return len(self.bounds) - 1

    @property
    def is_even(self) -> bool:
        """Whether all are equally long, so that nothing has to be padded."""
        return len(self.slots) == self.count * self.longest

    def pad(self, rows: Tensor) -> Tensor:
        """`rows` `[n, ...]` as `[s, longest, ...]`, zeros behind the shorter segments."""
        if not self.is_even:
            rows = rows.new_zeros(self.count * self.longest, *rows.shape[1:]).index_copy_(0, self.slots, rows)
        return rows.unflatten(0, (self.count, self.longest))

    def unpad(self, padded: Tensor) -> Tensor:
        """The inverse of `pad`."""
        rows = padded.flatten(0, 1)
        return rows if self.is_even else rows[self.slots]

    def mask(self) -> Tensor | None:
        """Which padded rows are real, `[s, 1, 1, longest]`; None if all are."""
        if self.is_even:
            return None
        lengths = self.bounds.diff()[:, None, None, None]
        return torch.arange(self.longest, device=lengths.device) < lengths


def attend(
    attention: Any, heads: tuple[Tensor, Tensor, Tensor], queries: Segments, keys: Segments, scale: float
) -> Tensor:
    """Mixed values `[k, heads · c]` of queries `[k, heads, c]` over keys and values `[n, heads, c]`.

    Query segment i attends to key segment i, which must not be empty; logits are multiplied by `scale`. Flash
    attention, where the model uses it, takes the packed rows as they are; else all segments go through torch's fused
    kernel at once, padded.
    """
    settings = {"scaling": scale, "dropout": 0.0, "is_causal": False}
    if is_flash_attention_requested(attention.config):
        kernel = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
        packed = (each.transpose(0, 1)[None] for each in heads)
        bounds = {"cu_seq_lens_q": queries.bounds, "cu_seq_lens_k": keys.bounds}
        longest = {"max_length_q": queries.longest, "max_length_k": keys.longest}
        mixed, _ = kernel(attention, *packed, attention_mask=None, **settings, **bounds, **longest)
        return mixed[0].flatten(1)
    query, key, value = (
        part.pad(each).transpose(1, 2) for part, each in zip((queries, keys, keys), heads, strict=True)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keys.mask(), scale=scale)
    return queries.unpad(mixed.transpose(1, 2)).flatten(1)
