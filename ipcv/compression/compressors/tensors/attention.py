"""Attention of some tokens over others, segment by segment (frames, windows), without padding."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.encoder import Heads
from ipcv.architecture.internals import kernel_function, packed_attention, torch_runs_flash, uses_flash_attention
from ipcv.compression.compressors.tensors.packing import PackedSegments, alike


def attend(attention: Any, heads: Heads, queries: PackedSegments, keys: PackedSegments, scale: float) -> Tensor:
    """Mixed values `[k, heads · c]` of queries `[k, heads, c]` over keys and values `[n, heads, c]`.

    Query segment i attends to key segment i; logits are multiplied by `scale`. A segment may have no queries, and costs
    nothing then; one that has queries must have keys. Packed rows go through flash attention if the model uses it, or
    through torch's kernel for packed rows where that runs. Otherwise, and if all segments with queries are alike, all
    segments that are alike go through torch's fused kernel at once.
    """
    if not queries.rows:
        return heads[0].flatten(1)
    groups = alike(queries.lengths, keys.lengths)
    if uses_flash_attention(attention.config):
        mixed = _flash(attention, heads, queries, keys, scale)
    elif len(groups) > 1 and runs_packed(heads):
        mixed = _packed(heads, queries, keys, scale)
    else:
        mixed = _grouped(groups, heads, queries, keys, scale)
    return mixed.flatten(1)


def runs_packed(heads: Heads) -> bool:
    """Whether torch's attention kernel for packed rows runs on these heads.

    It runs where torch's flash attention does: on CUDA GPUs from Ampere on, in half precision, with heads of up to 256
    values. The size of a head must also be a multiple of 8, and a scale can be given from torch 2.11 on only.
    """
    if not heads[0].is_cuda or heads[0].shape[-1] % 8 or torch.__version__ < "2.11":
        return False
    return torch_runs_flash(*(each.transpose(0, 1)[None] for each in heads))


def _flash(attention: Any, heads: Heads, queries: PackedSegments, keys: PackedSegments, scale: float) -> Tensor:
    mixed, _ = kernel_function(attention.config)(
        attention,
        *(each.transpose(0, 1)[None] for each in heads),
        attention_mask=None,
        scaling=scale,
        dropout=0.0,
        is_causal=False,
        cu_seq_lens_q=queries.bounds,
        cu_seq_lens_k=keys.bounds,
        max_length_q=queries.longest,
        max_length_k=keys.longest,
    )
    return mixed[0]


def _packed(heads: Heads, queries: PackedSegments, keys: PackedSegments, scale: float) -> Tensor:
    return packed_attention(*heads, queries.bounds, keys.bounds, queries.longest, keys.longest, scale=scale)


def _grouped(
    groups: Sequence[Sequence[int]], heads: Heads, queries: PackedSegments, keys: PackedSegments, scale: float
) -> Tensor:
    pieces: dict[int, Tensor] = {}
    for members in groups:
        query, key, value = (
            part.stacked(each, members).transpose(1, 2) for part, each in zip((queries, keys, keys), heads, strict=True)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)
        if len(groups) == 1:
            return mixed.flatten(0, 1)
        pieces.update(zip(members, mixed, strict=True))
    return torch.cat([pieces[member] for member in sorted(pieces)])
