"""Several answers written at once: prompts whose caches differ in length, and from layer to layer if pruned."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache, PreTrainedModel

from ipcv.architecture.hooks import installed
from ipcv.architecture.internals import attention_kernel, cache_argument, linear_states, store_linear_states
from ipcv.architecture.shapes import keyless_layers, layer_windows
from ipcv.inference.generate import Chooser, Decoding, end_tokens


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
    logits = torch.cat([decoding.logits for decoding in decodings])
    position = torch.cat([decoding.position for decoding in decodings], dim=-2)  # [3, batch, 1], or [batch, 1]
    seen = [decoding.seen for decoding in decodings]
    ends, open_ = end_tokens(model), set(range(len(decodings)))
    last = torch.zeros(len(decodings), 1, dtype=torch.long, device=model.device)  # ended ones go on with anything
    with installed(padded, layers):
        for count in range(limit):
            for index in sorted(open_):
                token = choosers[index](seen[index], logits[index : index + 1])
                if int(token) in ends:
                    open_.remove(index)
                    continue
                decodings[index].tokens.append(int(token))
                last[index] = token
                seen[index] = torch.cat([seen[index], token.view(1, 1)], dim=1)
            if not open_ or count + 1 == limit:
                return
            logits = padded.step(last, position)
            position = position + 1


class _Padded:
    """One cache for all, and the hooks that show each layer the attention mask that belongs to it."""

    def __init__(self, decodings: Sequence[Decoding], limit: int, layers: Any, model: PreTrainedModel) -> None:
        self.model, self.layers = model, layers
        caches: list[Any] = [decoding.cache for decoding in decodings]
        self.cache = DynamicCache(config=model.config.get_text_config())
        self.is_flash = "flash" in attention_kernel(model.config)
        self.seen: dict[int, Tensor] = {}  # by layer with keys, which of all places to be hold a token: [batch, places]
        self.places: dict[int, Tensor] = {}  # by layer with a window, their positions, likewise
        text = model.config.get_text_config()
        self.windows, keyless = layer_windows(text), keyless_layers(text)
        for index in range(len(layers)):
            parts = [cache.layers[index] for cache in caches]
            if index in keyless:
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
            yield self.layers[index].register_forward_pre_hook(partial(self.show_mask, index), with_kwargs=True)

    def step(self, tokens: Tensor, position: Tensor) -> Tensor:
        """The logits `[batch, vocabulary]` after one more token each."""
        output = self.model(
            input_ids=tokens,
            position_ids=position,
            attention_mask=None,  # each layer gets its own below
            **cache_argument(self.model, self.cache),
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def show_mask(
        self, index: int, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        count = self.cache.get_seq_length(index) + 1
        seen = self.seen[index][..., :count]
        if window := self.windows[index]:
            places = self.places[index][..., :count]
            seen = (seen & (places > places[:, -1:] - window))[:, -window:]  # the cache holds no more of them
        return args, kwargs | {"attention_mask": self.shaped(seen), "position_ids": None}

    def shaped(self, seen: Tensor) -> Tensor:
        """A mask `[batch, places]` as the attention kernel wants it: added to the scores, or as it is."""
        if self.is_flash:
            return seen
        weight: Any = self.model.get_input_embeddings().weight
        dtype = weight.dtype
        nothing = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return nothing.masked_fill(~seen, torch.finfo(dtype).min)[:, None, None]


def _places(decoding: Decoding, index: int, longest: int, limit: int) -> Tensor:
    """Positions of what a layer's cache holds of a prompt, `longest` with the padding ahead, and of `limit` more."""
    held = decoding.held[index]
    later = decoding.position.view(1) + torch.arange(limit, device=held.device)
    return torch.cat([F.pad(held, (longest - len(held), 0)), later])


def _left_padded(parts: Sequence[Tensor], length: int) -> Tensor:
    """`parts` `[1, heads, n, d]` of different `n` as one `[batch, heads, length, d]`, zeros in front."""
    return torch.cat([F.pad(part, (0, 0, length - part.shape[2], 0)) for part in parts])
