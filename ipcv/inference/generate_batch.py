"""Several answers written at once: prompts whose caches differ in length, and from layer to layer if pruned."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache, PreTrainedModel

from ipcv.architecture.hooks import installed, replace_mask
from ipcv.architecture.internals import attention_kernel, cache_argument, linear_states, store_linear_states
from ipcv.architecture.masks import kernel_mask
from ipcv.architecture.shapes import layer_windows, linear_layers
from ipcv.inference.generate import Chooser, Decoding, next_logits, write


def decode_together(
    model: PreTrainedModel, decodings: Sequence[Decoding], choosers: Sequence[Chooser], limit: int
) -> None:
    """Write up to `limit` tokens behind each of `decodings`, into its `tokens`, all of them step by step together.

    Each sequence is padded on the left, layer by layer, and keeps its own positions, so that it gets the tokens it
    would get alone, but for the rounding of larger matrix products. Where a layer attends linearly there is nothing to
    pad: each sequence has its state. The caches of `decodings` stay as they are.
    Outside any pruner's `with`: what is in the caches is pruned already, and a single token never is.
    """
    layers = model.get_decoder().layers
    padded = _Padded(decodings, limit, layers, model)
    with installed(padded, layers):
        for _ in write(model, decodings, choosers, limit, padded.step):
            pass


class _Padded:
    """One cache for all, and the hooks that show each layer the attention mask that belongs to it."""

    def __init__(self, decodings: Sequence[Decoding], limit: int, layers: Any, model: PreTrainedModel) -> None:
        self.model, self.layers = model, layers
        caches: list[Any] = [decoding.cache for decoding in decodings]
        self.cache = DynamicCache(config=model.config.get_text_config())
        self.seen: dict[int, Tensor] = {}  # by layer with keys, which of all places to be hold a token: [batch, places]
        self.places: dict[int, Tensor] = {}  # by layer with a window, their positions, likewise
        text = model.config.get_text_config()
        self.windows, linear = layer_windows(text), linear_layers(text)
        for index in range(len(layers)):
            parts = [cache.layers[index] for cache in caches]
            if index in linear:
                self.join(index, parts)
                continue
            self.seen[index], longest = self.pad(index, parts, limit)
            if self.windows[index]:
                self.places[index] = torch.stack([_places(each, index, longest, limit) for each in decodings])

    def join(self, index: int, parts: Sequence[Any]) -> None:
        """Put the states of a layer that attends linearly into the cache."""
        convolved, recurrent = (torch.cat(states) for states in zip(*map(linear_states, parts), strict=True))
        store_linear_states(self.cache, index, convolved, recurrent)

    def pad(self, index: int, parts: Sequence[Any], limit: int) -> tuple[Tensor, int]:
        """Put a layer's keys and values into the cache; which places hold a token, and how many the longest has."""
        keys, values = [part.keys for part in parts], [part.values for part in parts]
        lengths = torch.tensor([part.shape[2] for part in keys], device=self.model.device)
        longest = int(lengths.max())
        self.cache.update(_left_padded(keys, longest), _left_padded(values, longest), index)
        place = torch.arange(longest + limit, device=self.model.device)
        return place >= (longest - lengths)[:, None], longest

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the layers that need a mask, one handle each."""
        for index in self.seen:
            yield replace_mask(self.layers[index], partial(self.mask, index))

    def step(self, tokens: Tensor, position: Tensor) -> Tensor:
        """The logits `[batch, vocabulary]` after one more token each."""
        inputs = {"input_ids": tokens, "position_ids": position, **cache_argument(self.model, self.cache)}
        return next_logits(self.model, **inputs, attention_mask=None)  # each layer gets its own mask

    def mask(self, index: int) -> Tensor:
        """The attention mask of a layer for the next token of each sequence."""
        count = self.cache.get_seq_length(index) + 1
        seen = self.seen[index][..., :count]
        if window := self.windows[index]:
            places = self.places[index][..., :count]
            seen = (seen & (places > places[:, -1:] - window))[:, -window:]  # the cache holds no more of them
        return kernel_mask(seen[:, None], attention_kernel(self.model.config), self.model.dtype)


def _places(decoding: Decoding, index: int, longest: int, limit: int) -> Tensor:
    """Positions of what a layer's cache holds of a prompt, `longest` with the padding ahead, and of `limit` more."""
    held = decoding.held[index]
    later = decoding.position.view(1) + torch.arange(limit, device=held.device)
    return torch.cat([F.pad(held, (longest - len(held), 0)), later])


def _left_padded(parts: Sequence[Tensor], length: int) -> Tensor:
    """`parts` `[1, heads, n, d]` of different `n` as one `[batch, heads, length, d]`, zeros in front."""
    return torch.cat([F.pad(part, (0, 0, length - part.shape[2], 0)) for part in parts])
