"""Hooks on the decoder layers that drop visual tokens from a prompt, whichever method chooses them.

Visual tokens are dropped at the input of some layers, for that layer and all later ones: their keys and values never
enter the cache there, and the tokens that stay keep their positions. Text is never dropped.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache, DynamicCache, PreTrainedModel

from ipcv.architecture.internals import cut_to_window, hold_beyond_window, holds_window, layer_cache, rotary_function
from ipcv.architecture.shapes import TextShape
from ipcv.compression.pruners.deepstack import DeepStack
from ipcv.compression.pruners.narrowing import Narrowing, is_empty
from ipcv.compression.pruners.prompt_state import KeptTokens, PromptState, PrunedPrompts
from ipcv.compression.pruners.pruner import Pruned
from ipcv.families import find_encoder


class Dropping:
    """The hooks of one `with`: `choose` says, at each pruning layer, which visual tokens stay."""

    def __init__(
        self,
        choose: Callable[[PromptState], Pruned],
        model: PreTrainedModel,
        shape: TextShape,
        steps: tuple[int, ...],  # the pruning layers, ascending
        *,
        has_newlines: bool,  # whether each video ends in a token that has a visual id and is no frame's
    ) -> None:
        self.choose = choose
        self.model = model
        self.layers: Any = model.get_decoder().layers
        self.shape = shape
        self.steps = steps
        self.has_newlines = has_newlines
        ids = (getattr(model.config, name, None) for name in ("image_token_id", "video_token_id"))
        self.visual_ids = [number for number in ids if number is not None]
        self.prompts = PrunedPrompts(steps)
        self.narrowing = Narrowing(model, shape, self.prompts)
        self.deepstack = DeepStack(model, len(find_encoder(model).deepstack), self.prompts)
        self.query: Tensor  # [1, 1, ...] of the last token in the layer before a pruning layer, as projected
        self.before: Tensor  # [1, tokens, d] input of the layer before a pruning layer
        self.rotation: tuple[Tensor, Tensor]  # cosines and sines there, which may differ from other layers'

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one handle each."""
        yield self.model.model.register_forward_pre_hook(self.read_ids, with_kwargs=True)
        yield from self.deepstack.install()
        for index in range(self.steps[0], self.shape.layers):
            if index in self.steps:
                yield from self.install_reading(index - 1)
                yield self.layers[index].register_forward_pre_hook(partial(self.prune, index), with_kwargs=True)
            yield from self.narrowing.install(index, self.layers[index])

    def install_reading(self, index: int) -> Iterator[RemovableHandle]:
        """Hooks on layer `index`, the one before a pruning layer, that read what tokens are chosen by."""
        layer = self.layers[index]
        if index not in self.shape.linear_layers:
            yield layer.self_attn.q_proj.register_forward_hook(self.read_query)
        yield layer.register_forward_hook(self.read_input, with_kwargs=True)
        if self.shape.window(index):
            yield layer.register_forward_pre_hook(partial(self.hold_keys, index), with_kwargs=True)

    def read_ids(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before everything: find the visual tokens."""
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise ValueError("pruning in the language model finds visual tokens by their ids: pass input_ids")
        if len(ids) != 1:
            raise ValueError(f"pruning in the language model takes one prompt at a time, got a batch of {len(ids)}")
        is_visual = torch.isin(ids[0], torch.tensor(self.visual_ids, device=ids.device))
        if self.has_newlines:  # the last of each run, which is never dropped
            is_visual &= F.pad(is_visual[1:], (0, 1))
        self.prompts.is_visual = is_visual

    def read_query(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        """In the layer before a pruning layer: keep the last token's query."""
        self.query = output[:, -1:]

    def read_input(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], __: Tensor) -> None:
        """Behind the layer before a pruning layer: keep its input and its rotation."""
        self.before, self.rotation = args[0], kwargs["position_embeddings"]

    def hold_keys(self, index: int, _: nn.Module, __: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        """Let the cache hold all keys of a prompt in a layer with a window until tokens are chosen by them."""
        cache = layer_cache(kwargs)
        held: Any = cache.layers[index:] if isinstance(cache, DynamicCache) else ()  # it may make its layers later
        if held and holds_window(held[0]) and held[0].get_seq_length() == 0:
            hold_beyond_window(held[0])

    def prune(
        self, index: int, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """At a pruning layer: in a prompt's first pass choose the rows that stay, and drop the others."""
        cache = layer_cache(kwargs)
        if not isinstance(cache, DynamicCache):
            raise ValueError(  # noqa: TRY004 - a wrong setting, not a wrong type
                f"pruning in the language model needs a DynamicCache (use_cache=True), got {type(cache).__name__}"
            )
        if is_empty(cache, index, self.shape):
            return (self.drop(index, args[0], cache), *args[1:]), kwargs
        self.check_continues(cache, args[0].shape[1])
        return args, kwargs

    def check_continues(self, cache: Cache, tokens: int) -> None:
        """Raise `ValueError` unless the `tokens` of this pass follow, in `cache`, a prompt that was pruned here."""
        if cache not in self.prompts.kept:
            raise ValueError("this key-value cache was filled outside this pruner's `with`, or copied: start a new one")
        if tokens > 1 and self.prompts.is_visual.any():
            raise ValueError("visual tokens behind a prompt's first pass are not pruned: pass the prompt in one piece")

    def drop(self, index: int, states: Tensor, cache: DynamicCache) -> Tensor:
        """The rows `[1, m, d]` of `states`, the input of layer `index`, that stay; `prompts` remembers which."""
        is_visual = self.prompts.is_visual
        passed = () if index == self.steps[0] else self.prompts.kept[cache].rows
        rows = passed[-1] if passed else torch.arange(len(is_visual), device=states.device)
        stays, states = self.stay(index, states, is_visual[rows], cache)
        before: Any = cache.layers[index - 1]
        if self.shape.window(index - 1) and holds_window(before):
            cut_to_window(before)  # see `hold_keys`
        del self.before  # as large as the prompt
        self.prompts.kept[cache] = KeptTokens((*passed, rows[stays]), len(is_visual))
        return states[:, stays]

    def stay(self, index: int, states: Tensor, is_visual: Tensor, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """Positions `[m]`, ascending, of the rows that stay from layer `index` on, and all rows with what merged."""
        visual = is_visual.nonzero()[:, 0]
        if not len(visual):
            return torch.arange(len(is_visual), device=states.device), states
        text = (~is_visual).nonzero()[:, 0]
        keys, query = self.keys_and_query(index - 1, cache)
        prompt = PromptState(
            visual=visual,
            text=text[text > visual[0]],
            before=self.before[0],
            states=states[0],
            keys=keys,
            query=query,
            scale=None if index - 1 in self.shape.linear_layers else self.layers[index - 1].self_attn.scaling,
            step=self.steps.index(index),
        )
        stays = ~is_visual
        pruned = self.choose(prompt)
        stays[visual] = pruned.stays
        if pruned.states is not None:
            states = states.index_copy(1, visual[pruned.stays], pruned.states[None].to(states.dtype))
        return stays.nonzero()[:, 0], states

    def keys_and_query(self, index: int, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """A layer's keys and its last token's query, in the form of `PromptState`."""
        if index in self.shape.linear_layers:
            return self.before.new_empty(0, self.before.shape[1], 0), self.before.new_empty(0, 0)
        before: Any = cache.layers[index]
        return before.keys[0], self.rotated_query(index)

    def rotated_query(self, index: int) -> Tensor:
        """The last token's query `[query heads, head_dim]` in a layer, rotated by the model's own function."""
        attention = self.layers[index].self_attn
        heads = self.query.view(1, 1, self.shape.heads, -1)[..., : attention.head_dim]  # gates may be behind each
        heads = heads.transpose(1, 2)
        if hasattr(attention, "q_norm"):
            heads = attention.q_norm(heads)
        cos, sin = (table[:, -1:] for table in self.rotation)
        return rotary_function(attention)(heads, heads, cos, sin)[0][0, :, 0]
