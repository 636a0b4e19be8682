"""A long prompt through the decoder layers piece by piece, so that their activations stay small."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ipcv.architecture.hooks import Override
from ipcv.architecture.internals import attention_kernel, layer_cache
from ipcv.architecture.shapes import CHUNK, linear_layers

# From a layer's input `[1, length, d]` and its keyword arguments, the pieces: rows, and the attention mask for them.
# None: the layer computes the whole prompt at once.
Plan = Callable[[Tensor, dict[str, Any]], Iterable[tuple[slice, Tensor | None]] | None]


@contextmanager
def by_pieces(model: PreTrainedModel, plan: Callable[[int], Plan]) -> Iterator[None]:
    """Let decoder layer `index` of `model` work through a prompt by the pieces of `plan(index)`.

    A layer's earlier pieces are in its key-value cache, or in its state, when the next one comes, so the result is that
    of one piece but for the rounding of smaller matrix products. Pieces are formed within each layer, not over the
    whole model: pruners, which choose tokens between layers, still see the whole prompt. As long as the prompt are only
    its hidden states, once before and once behind a layer, and the cache itself.
    """
    with ExitStack() as stack:
        for index, layer in enumerate(model.get_decoder().layers):
            stack.callback(Override(layer, partial(_forward, layer.forward, plan(index))).remove)
        yield


def _forward(whole: Callable[..., Tensor], plan: Plan, states: Tensor, **named: Any) -> Tensor:
    """In place of a decoder layer's `forward`, which is `whole`: `states` `[1, length, d]` piece by piece."""
    pieces = plan(states, named)
    if pieces is None:
        return whole(states, **named)
    output = torch.empty_like(states)
    for rows, mask in pieces:
        part = named | {
            "attention_mask": mask,
            "position_embeddings": tuple(table[:, rows] for table in named["position_embeddings"]),
            "position_ids": None,  # only read to find packed sequences, and there are none
        }
        output[:, rows] = whole(states[:, rows], **part)
    return output


@contextmanager
def in_chunks(model: PreTrainedModel, chunk: int = CHUNK) -> Iterator[None]:
    """Let every decoder layer work through a prompt `chunk` tokens at a time, each of which sees all before it."""
    linear = linear_layers(model.config.get_text_config())
    kernel = attention_kernel(model.config)

    def plan(index: int) -> Plan:
        return partial(_linear_chunks, chunk) if index in linear else partial(_chunks, index, chunk, kernel)

    with by_pieces(model, plan):
        yield


def _rows(length: int, chunk: int) -> Iterator[slice]:
    for start in range(0, length, chunk):
        yield slice(start, min(start + chunk, length))


def _linear_chunks(chunk: int, states: Tensor, named: dict[str, Any]) -> Iterable[tuple[slice, Tensor | None]] | None:
    """Chunks for linear attention, whose mask `[1, length]` says which tokens are no padding."""
    length, mask = states.shape[1], named.get("attention_mask")
    if length <= chunk:
        return None
    return ((rows, mask if mask is None else mask[:, rows]) for rows in _rows(length, chunk))


def _chunks(
    index: int, chunk: int, kernel: str, states: Tensor, named: dict[str, Any]
) -> Iterable[tuple[slice, Tensor | None]] | None:
    """Chunks for layer `index`, which attends to all tokens before."""
    length, mask = states.shape[1], named.get("attention_mask")
    if length <= chunk:
        return None
    past = layer_cache(named).get_seq_length(index)
    return ((rows, _mask(mask, rows, past, kernel, states)) for rows in _rows(length, chunk))


def _mask(mask: Tensor | None, rows: slice, past: int, kernel: str, states: Tensor) -> Tensor | None:
    """The attention mask for some `rows` of a prompt behind `past` tokens, in the form that the kernel had of all."""
    until = past + rows.stop
    if mask is not None:
        return mask[..., :until] if mask.ndim == 2 else mask[..., rows, :until]
    if "flash" in kernel:
        return None  # it aligns the causal triangle with the last key by itself
    query = torch.arange(past + rows.start, until, device=states.device)
    return (torch.arange(until, device=states.device) <= query[:, None])[None, None]
