"""The hooks on the decoder layers that drop visual tokens from a prompt, whichever method chooses them.

Visual tokens are dropped at the input of some layers, for that layer and all later ones: their keys and values never
enter the cache there, and the tokens that stay keep their positions. Text is never dropped.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache, DynamicCache, PreTrainedModel

from ipcv.architecture.internals import (
    DEEPSTACK,
    attention_kernel,
    cut_to_window,
    hold_beyond_window,
    holds_window,
    layer_cache,
    rotary_function,
)
from ipcv.architecture.masks import attention_mask, kernel_mask, token_table
from ipcv.architecture.shapes import keyless_layers, layer_windows
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.families import find_encoder

if TYPE_CHECKING:
    from ipcv.compression.pruners.pruner import Pruner


@dataclass(frozen=True)
class _Kept:
    """Which tokens of a prompt stay."""

    rows: tuple[Tensor, ...]  # [m] each, per pruning layer passed: positions in the whole prompt, ascending
    length: int  # of the whole prompt

    def left(self, steps: int) -> Tensor:
        """The tokens `[m]` that are left behind so many pruning layers."""
        return self.rows[steps - 1] if steps else torch.arange(self.length, device=self.rows[0].device)


class Dropping:
    """The hooks of one `with`. Which tokens of a prompt stay is remembered beside the cache that they fill."""

    def __init__(
        self,
        pruner: "Pruner",
        model: PreTrainedModel,
        layers: Any,
        steps: tuple[int, ...],
        *,
        has_newlines: bool,
    ) -> None:
        self.pruner = pruner
        self.model = model
        self.layers = layers
        self.steps = steps
        self.keyless = keyless_layers(model.config.get_text_config())
        self.windows = layer_windows(model.config.get_text_config())
        self.first = next((index for index in range(len(layers)) if index not in self.keyless), 0)  # with keys
        ids = (getattr(model.config, name, None) for name in ("image_token_id", "video_token_id"))
        self.visual_ids = [number for number in ids if number is not None]
        self.has_newlines = has_newlines  # whether a visual id that is no frame's ends each video
        self.is_visual: Tensor  # [length] of the pass under way
        self.query: Tensor  # [1, 1, ...] of its last token in the layer before a pruning layer, as projected
        self.before: Tensor  # [1, tokens, d] input of the layer before a pruning layer
        self.rotation: tuple[Tensor, Tensor]  # its cosines and sines, which other layers may have others of
        self.taps: Sequence[Tensor] | None  # [n, d] each, what its visual tokens get behind the first layers
        self.kept: WeakKeyDictionary[Cache, _Kept] = WeakKeyDictionary()

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one handle each."""
        yield self.model.model.register_forward_pre_hook(self.read_ids, with_kwargs=True)
        yield from self.install_taps()
        for index in range(self.steps[0], len(self.layers)):
            hook: Callable[..., Any] = self.narrow
            if index in self.steps:
                before = self.layers[index - 1]
                if index - 1 not in self.keyless:
                    yield before.self_attn.q_proj.register_forward_hook(self.read_query)
                yield before.register_forward_hook(self.read_input, with_kwargs=True)
                if self.windows[index - 1]:
                    yield before.register_forward_pre_hook(partial(self.hold_keys, index - 1), with_kwargs=True)
                hook = self.prune
            yield self.layers[index].register_forward_pre_hook(partial(hook, index), with_kwargs=True)

    def install_taps(self) -> Iterator[RemovableHandle]:
        """Hooks that add to visual tokens what the language model would, where some are dropped before (DeepStack)."""
        taps = len(find_encoder(self.model).taps)
        if self.steps[0] < taps:
            yield self.model.get_decoder().register_forward_pre_hook(self.take_taps, with_kwargs=True)
            for index, layer in enumerate(self.layers[:taps]):
                yield layer.register_forward_hook(partial(self.add_tap, index), with_kwargs=True)

    def take_taps(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before the layers: keep what they would add to visual tokens."""
        self.taps = kwargs.get(DEEPSTACK)
        return args, kwargs | {DEEPSTACK: None}

    def add_tap(
        self, index: int, _: nn.Module, __: tuple[Tensor, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        """Behind a layer: the output of an encoder's block, made to visual tokens, on top of those that are left."""
        if self.taps is None:
            return output
        passed = bisect_right(self.steps, index)
        whole = torch.arange(len(self.is_visual), device=output.device)
        rows = self.kept[layer_cache(kwargs)].left(passed) if passed else whole
        visual = self.is_visual[rows]
        left = (self.is_visual.cumsum(0) - 1)[rows[visual]]  # which of the visual tokens
        return output.index_add(1, visual.nonzero()[:, 0], self.taps[index][left].to(output.dtype)[None])

    def read_ids(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before everything: which tokens are visual."""
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise ValueError("pruning in the language model finds visual tokens by their ids: pass input_ids")
        if len(ids) != 1:
            raise ValueError(f"pruning in the language model takes one prompt at a time, got a batch of {len(ids)}")
        self.is_visual = torch.isin(ids[0], torch.tensor(self.visual_ids, device=ids.device))
        if self.has_newlines:  # the last of each run, which is never dropped
            self.is_visual &= F.pad(self.is_visual[1:], (0, 1))

    def read_query(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        """In the layer before a pruning layer: the last token's query."""
        self.query = output[:, -1:]

    def read_input(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], __: Tensor) -> None:
        """Behind that layer: what it got."""
        self.before, self.rotation = args[0], kwargs["position_embeddings"]

    def hold_keys(self, index: int, _: nn.Module, __: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        """Let the cache hold a prompt's keys in a layer with a window, all of them, until tokens are chosen by them."""
        cache = layer_cache(kwargs)
        held: Any = cache.layers[index:] if isinstance(cache, DynamicCache) else ()  # it may make them later
        if held and holds_window(held[0]) and held[0].get_seq_length() == 0:
            hold_beyond_window(held[0])

    def prune(
        self, index: int, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """At a pruning layer: in a prompt's first pass choose what stays, and drop the other rows."""
        cache = layer_cache(kwargs)
        if not isinstance(cache, DynamicCache):
            raise ValueError(  # noqa: TRY004 - a wrong setting, not a wrong type
                f"pruning in the language model needs a DynamicCache (use_cache=True), got {type(cache).__name__}"
            )
        if self.is_empty(cache, index):
            args = (self.drop(index, args[0], cache), *args[1:])
        else:
            self.check_continues(cache, args[0].shape[1])
        return self.narrow(index, layer, args, kwargs)

    def is_empty(self, cache: Cache, index: int) -> bool:
        """Whether layer `index` has seen nothing yet of what `cache` is for."""
        return not cache.has_previous_state(index) if index in self.keyless else cache.get_seq_length(index) == 0

    def check_continues(self, cache: Cache, tokens: int) -> None:
        """Raise `ValueError` unless the `tokens` of this pass follow, in `cache`, a prompt that was pruned here."""
        if cache not in self.kept:
            raise ValueError("this key-value cache was filled outside this pruner's `with`, or copied: start a new one")
        if tokens > 1 and self.is_visual.any():
            raise ValueError("visual tokens behind a prompt's first pass are not pruned: pass the prompt in one piece")

    def drop(self, index: int, states: Tensor, cache: DynamicCache) -> Tensor:
        """The rows `[1, m, d]` of `states`, the input of layer `index`, that stay; remembers which they are."""
        passed = () if index == self.steps[0] else self.kept[cache].rows
        rows = passed[-1] if passed else torch.arange(len(self.is_visual), device=states.device)
        stays = self.stay(index, states, self.is_visual[rows], cache)
        before: Any = cache.layers[index - 1]
        if self.windows[index - 1] and holds_window(before):
            cut_to_window(before)  # see `hold_keys`
        del self.before  # as large as the prompt
        self.kept[cache] = _Kept((*passed, rows[stays]), len(self.is_visual))
        return states[:, stays]

    def stay(self, index: int, states: Tensor, is_visual: Tensor, cache: DynamicCache) -> Tensor:
        """Which rows of `states` `[1, length, d]` stay from layer `index` on: positions `[m]`, ascending."""
        visual = is_visual.nonzero()[:, 0]
        if not len(visual):
            return torch.arange(len(is_visual), device=states.device)
        text = (~is_visual).nonzero()[:, 0]
        keys, query = self.keys_and_query(index - 1, cache)
        prompt = PromptState(
            visual=visual,
            text=text[text > visual[0]],
            before=self.before[0],
            states=states[0],
            keys=keys,
            query=query,
            scale=None if index - 1 in self.keyless else self.layers[index - 1].self_attn.scaling,
            step=self.steps.index(index),
        )
        stays = ~is_visual
        stays[visual] = self.pruner.choose(prompt)
        return stays.nonzero()[:, 0]

    def keys_and_query(self, index: int, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """A layer's keys and its last token's query, as `PromptState` has them."""
        if index in self.keyless:
            return self.before.new_empty(0, self.before.shape[1], 0), self.before.new_empty(0, 0)
        before: Any = cache.layers[index]
        return before.keys[0], self.rotated_query(index)

    def rotated_query(self, index: int) -> Tensor:
        """The last token's query `[query heads, head_dim]` in a layer, rotated by the model's own function."""
        attention = self.layers[index].self_attn
        count = self.model.config.get_text_config().num_attention_heads
        heads = self.query.view(1, 1, count, -1)[..., : attention.head_dim].transpose(1, 2)  # gates may be behind each
        if hasattr(attention, "q_norm"):
            heads = attention.q_norm(heads)
        cos, sin = (table[:, -1:] for table in self.rotation)
        return rotary_function(attention)(heads, heads, cos, sin)[0][0, :, 0]

    def narrow(
        self, index: int, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Leave the dropped tokens out of a layer's rotation tables and attention mask."""
        cache, mask = layer_cache(kwargs), kwargs["attention_mask"]
        kept = self.kept[cache]
        rows = kept.left(bisect_right(self.steps, index))
        narrowed: dict[str, Any] = {"position_ids": None}  # only read to find packed sequences, and there are none
        if self.is_empty(cache, index):
            narrowed["position_embeddings"] = tuple(table[:, rows] for table in kwargs["position_embeddings"])
            if mask is not None:
                narrowed["attention_mask"] = mask[..., rows] if mask.ndim == 2 else mask[..., rows, :][..., rows]
        elif any(self.windows):
            mask = self.masked(index, rows, args[0].shape[1], cache)
            narrowed["attention_mask"] = kernel_mask(mask, attention_kernel(self.model.config), args[0].dtype)
        elif mask is not None and index not in self.keyless:
            # made for the first layer with keys and what that one holds: its columns for `rows`, then all later ones
            first = kept.left(bisect_right(self.steps, self.first))
            later = torch.arange(len(first), mask.shape[-1], device=mask.device)
            narrowed["attention_mask"] = mask[..., torch.cat([torch.searchsorted(first, rows), later])]
        return args, kwargs | narrowed

    def masked(self, index: int, rows: Tensor, new: int, cache: Any) -> Tensor:
        """The mask of a layer for `new` text tokens behind a prompt of which it has `rows` `[m]`.

        Tokens are counted from the prompt's first one. transformers makes its masks for layers that hold another number
        of them, and counts those.
        """
        length, seen, window = self.kept[cache].length, cache.get_seq_length(index), self.windows[index]
        later = torch.arange(length, length + seen - len(rows) + new, device=rows.device)
        numbers = torch.cat([rows, later])
        told = token_table(numbers, torch.zeros_like(numbers, dtype=torch.bool))
        held = told[:, -window - new + 1 :] if window and holds_window(cache.layers[index]) else told
        return attention_mask(told[:, -new:], held, window)[None, None]
