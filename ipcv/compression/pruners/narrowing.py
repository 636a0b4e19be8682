"""Later layers of a pruned prompt: their rotation tables and attention masks hold the tokens that stay, no others."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache, PreTrainedModel

from ipcv.architecture.internals import attention_kernel, holds_window, layer_cache
from ipcv.architecture.masks import attention_mask, kernel_mask, token_table
from ipcv.architecture.shapes import TextShape
from ipcv.compression.pruners.prompt_state import PrunedPrompts


def is_empty(cache: Cache, index: int, shape: TextShape) -> bool:
    """Whether layer `index` has seen no token of the prompt that `cache` belongs to."""
    return not cache.has_previous_state(index) if index in shape.linear_layers else cache.get_seq_length(index) == 0


class Narrowing:
    """Hooks that leave the dropped tokens out of the inputs that a decoder layer gets beside its states."""

    def __init__(self, model: PreTrainedModel, shape: TextShape, prompts: PrunedPrompts) -> None:
        self.model = model
        self.shape = shape
        self.prompts = prompts
        self.first = next((index for index in range(shape.layers) if index not in shape.linear_layers), 0)  # with keys

    def install(self, index: int, layer: nn.Module) -> Iterator[RemovableHandle]:
        """Put the hook on layer `index`, behind the one that drops tokens there, if any."""
        yield layer.register_forward_pre_hook(partial(self.narrow, index), with_kwargs=True)

    def narrow(
        self, index: int, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Leave the dropped tokens out of a layer's rotation tables and attention mask."""
        cache, mask = layer_cache(kwargs), kwargs["attention_mask"]
        rows = self.rows(cache, index)
        narrowed: dict[str, Any] = {"position_ids": None}  # only read to find packed sequences, and there are none
        if is_empty(cache, index, self.shape):
            narrowed["position_embeddings"] = tuple(table[:, rows] for table in kwargs["position_embeddings"])
            if mask is not None:
                narrowed["attention_mask"] = mask[..., rows] if mask.ndim == 2 else mask[..., rows, :][..., rows]
        elif any(self.shape.windows):
            seen = self.seen(index, rows, args[0].shape[1], cache)
            narrowed["attention_mask"] = kernel_mask(seen, attention_kernel(self.model.config), args[0].dtype)
        elif mask is not None and index not in self.shape.linear_layers:
            # made for the first layer with keys and the tokens that it holds: its columns for `rows`, then later ones
            first = self.rows(cache, self.first)
            later = torch.arange(len(first), mask.shape[-1], device=mask.device)
            narrowed["attention_mask"] = mask[..., torch.cat([torch.searchsorted(first, rows), later])]
        return args, kwargs | narrowed

    def rows(self, cache: Cache, index: int) -> Tensor:
        """Positions `[m]` in the whole prompt of the tokens that layer `index` sees."""
        rows = self.prompts.rows(cache, index)
        if rows is None:
            kept = self.prompts.kept[cache]
            rows = torch.arange(kept.length, device=kept.rows[0].device)
        return rows

    def seen(self, index: int, rows: Tensor, new: int, cache: Any) -> Tensor:
        """A mask `[1, new, keys]`: which keys a layer's `new` text tokens attend to, `rows` `[m]` of a prompt first.

        Tokens are counted from the prompt's first one. transformers makes its masks for layers that hold another number
        of tokens, and counts those.
        """
        length, held, window = self.prompts.kept[cache].length, cache.get_seq_length(index), self.shape.window(index)
        later = torch.arange(length, length + held - len(rows) + new, device=rows.device)
        numbers = torch.cat([rows, later])
        table = token_table(numbers, torch.zeros_like(numbers, dtype=torch.bool))
        keys = table[:, -window - new + 1 :] if window and holds_window(cache.layers[index]) else table
        return attention_mask(table[:, -new:], keys, window)[None]
