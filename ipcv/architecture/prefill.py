"""A long prompt through the decoder layers in chunks of its tokens, so that their activations stay small."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ipcv.architecture.hooks import Override
from ipcv.architecture.internals import attention_kernel, layer_cache
from ipcv.architecture.shapes import CHUNK, keyless_layers


@contextmanager
def in_chunks(model: PreTrainedModel, chunk: int = CHUNK) -> Iterator[None]:
    """Let every decoder layer of `model` work through a prompt `chunk` tokens at a time, for the length of the `with`.

    A layer's earlier chunks are in its key-value cache, or in its state, when the next one comes, so the result is that
    of one piece but for the rounding of smaller matrix products. Chunks are formed within each layer, not over the
    whole model: what chooses tokens between layers (the pruners) still sees the whole prompt. What remains as long as
    the prompt are its hidden states, once before and once behind a layer, and the cache itself.
    """
    kernel = attention_kernel(model.config)
    keyless = keyless_layers(model.config.get_text_config())
    with ExitStack() as stack:
        for index, layer in enumerate(model.get_decoder().layers):
            forward = partial(_forward, layer.forward, None if index in keyless else index, chunk, kernel)
            stack.callback(Override(layer, forward).remove)
        yield


def _forward(
    whole: Callable[..., Tensor], index: int | None, chunk: int, kernel: str, states: Tensor, **named: Any
) -> Tensor:
    """In place of a decoder layer's `forward`, which is `whole`: `states` `[1, length, d]` by chunks of rows.

    `index` is the layer's, and None where it attends linearly: its mask is about the rows alone.
    """
    length = states.shape[1]
    if length <= chunk:
        return whole(states, **named)
    output, mask = torch.empty_like(states), named.get("attention_mask")
    past = 0 if index is None else layer_cache(named).get_seq_length(index)
    for start in range(0, length, chunk):
        rows = slice(start, min(start + chunk, length))
        tables = tuple(table[:, rows] for table in named["position_embeddings"])
        seen = _own_mask(mask, rows) if index is None else _mask(mask, rows, past, kernel, states)
        # position ids are only read to find packed sequences, and there are none
        part = named | {"position_embeddings": tables, "attention_mask": seen, "position_ids": None}
        output[:, rows] = whole(states[:, rows], **part)
    return output


def _own_mask(mask: Tensor | None, rows: slice) -> Tensor | None:
    """Which of some `rows` are no padding, from a mask `[1, length]` of all."""
    return mask if mask is None else mask[:, rows]


def _mask(mask: Tensor | None, rows: slice, past: int, kernel: str, states: Tensor) -> Tensor | None:
    """The attention mask for some `rows` of a prompt behind `past` tokens, in the form that the kernel had of all."""
    until = past + rows.stop
    if mask is not None:
        return mask[..., :until] if mask.ndim == 2 else mask[..., rows, :until]
    if "flash" in kernel:
        return None  # it aligns the causal triangle with the last key by itself
    query = torch.arange(past + rows.start, until, device=states.device)
    return (torch.arange(until, device=states.device) <= query[:, None])[None, None]
