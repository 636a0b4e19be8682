"""Pruning visual tokens inside the language model: DART and FastV, as hooks on its decoder layers.

Both drop visual tokens at the input of one layer, for that layer and all later ones: their keys and values never
enter the cache there, and the tokens that stay keep their positions. Text is never dropped.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from sys import modules
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache, DynamicCache, PreTrainedModel

from ipcv.encoders import check_family
from ipcv.hooks import installed
from ipcv.tokens import kept_count


@dataclass(frozen=True)
class Prompt:
    """What the layer before the pruning layer knows about a prompt when its visual tokens are chosen."""

    visual: Tensor  # [n] positions of the visual tokens, ascending
    text: Tensor  # [t] positions of the text tokens after the first visual one
    states: Tensor  # [length, d] output of the layer before
    keys: Tensor  # [heads, length, head_dim] its keys, as cached
    query: Tensor  # [query heads, head_dim] its query of the last token, rotated like the keys


@dataclass(frozen=True, kw_only=True)
class LanguagePruner(ABC):
    """Visual tokens pruned at the input of one decoder layer; see `Dart` and `FastV`.

    For one prompt at a time, with the key-value cache on (the default of transformers). Raises `ValueError` for
    settings that make no sense, `ModelError` for an unsupported family.
    """

    keep: float = 0.5  # share of the prompt's visual tokens that the later layers see
    layer: int = 3  # first decoder layer without the dropped tokens

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"{type(self).__name__} keep={self.keep} must be more than 0 and at most 1")
        if self.layer < 1:
            raise ValueError(
                f"{type(self).__name__} layer={self.layer} must be at least 1: "
                "tokens are chosen by what the layer before did"
            )

    @contextmanager
    def __call__(self, model: PreTrainedModel) -> Iterator[None]:
        """Prune in the language model of `model` for the length of the `with`; the model is left as it was."""
        check_family(model.config.model_type)
        layers = model.get_decoder().layers
        self.check_depth(len(layers))
        with installed(_Hooks(self, model, layers), layers) if self.keep < 1 else nullcontext():
            yield

    def check_depth(self, depth: int) -> None:
        """Raise `ValueError` if a language model of `depth` layers ends before `layer`."""
        if self.layer >= depth:
            raise ValueError(
                f"layer={self.layer} is past the language model's last layer ({depth - 1}, counted from 0)"
            )

    @abstractmethod
    def choose(self, prompt: Prompt) -> Tensor:
        """Which of `prompt.visual` stay: a boolean mask `[n]`."""

    @abstractmethod
    def count(self, visual: int) -> int:
        """How many of `visual` tokens stay."""


@dataclass(frozen=True, kw_only=True)
class Dart(LanguagePruner):
    """Keep the tokens that duplicate a few pivots least (DART, arXiv 2502.11494).

    Pivots are the 4 visual and 4 text tokens with the largest L1 norm of the previous layer's keys. Each in turn
    takes the `n * keep / 8` visual tokens not yet taken whose hidden states are least like its own (cosine).
    """

    PIVOTS: ClassVar[int] = 4  # of each kind
    method: Literal["dart"] = field(default="dart", init=False)

    def count(self, visual: int) -> int:
        """How many of `visual` tokens stay: the visual pivots and what all pivots take."""
        pivots = min(self.PIVOTS, visual)
        return min(visual, pivots + 2 * self.PIVOTS * self._share(visual))

    def _share(self, visual: int) -> int:
        return int(visual * self.keep / (2 * self.PIVOTS))

    def choose(self, prompt: Prompt) -> Tensor:
        """The pivots and the tokens they take, as a mask `[n]` over the visual tokens."""
        norms = prompt.keys.float().abs().sum(dim=(0, 2))
        pivots = norms[prompt.visual].topk(min(self.PIVOTS, len(prompt.visual))).indices
        text = norms[prompt.text].topk(min(self.PIVOTS, len(prompt.text))).indices
        # the published results come from code that visits the pivots in the order of a Python set of their positions
        order = list(set(torch.cat([prompt.visual[pivots], prompt.text[text]]).tolist()))
        states = F.normalize(prompt.states.float(), dim=-1)
        likeness = states[order] @ states[prompt.visual].T
        taken = torch.zeros(len(prompt.visual), dtype=torch.bool, device=prompt.visual.device)
        taken[pivots] = True
        left = len(prompt.visual) - len(pivots)
        for row in likeness:
            share = min(self._share(len(prompt.visual)), left)
            taken[row.masked_fill(taken, torch.inf).topk(share, largest=False).indices] = True
            left -= share
        return taken


@dataclass(frozen=True, kw_only=True)
class FastV(LanguagePruner):
    """Keep the visual tokens to which the last token attends most in the layer before (FastV, arXiv 2403.06764).

    Attention is averaged over heads and computed for that one query only, whatever attention kernel is in use.
    """

    method: Literal["fastv"] = field(default="fastv", init=False)

    def count(self, visual: int) -> int:
        """How many of `visual` tokens stay."""
        return max(1, kept_count(visual, self.keep)) if visual else 0

    def choose(self, prompt: Prompt) -> Tensor:
        """The most attended visual tokens, as a mask `[n]`."""
        heads, _, width = prompt.keys.shape
        query = prompt.query.view(heads, -1, width).float()  # grouped-query attention: query heads per key head
        logits = query @ prompt.keys.float().transpose(-1, -2) / width**0.5
        attention = logits.softmax(-1).mean(dim=(0, 1))[prompt.visual]
        taken = torch.zeros_like(attention, dtype=torch.bool)
        taken[attention.topk(self.count(len(attention))).indices] = True
        return taken


@dataclass(frozen=True)
class _Kept:
    """Which tokens of a prompt stay."""

    rows: Tensor  # [m] positions in the prompt, ascending
    length: int  # of the whole prompt


class _Hooks:
    """The hooks of one `with`. Which tokens of a prompt stay is remembered beside the cache that they fill."""

    def __init__(self, pruner: LanguagePruner, model: PreTrainedModel, layers: Any) -> None:
        self.pruner = pruner
        self.model = model
        self.layers = layers
        self.visual_ids = (model.config.image_token_id, model.config.video_token_id)
        self.is_visual: Tensor  # [length] of the pass under way
        self.query: Tensor  # [1, 1, query heads * head_dim] of its last token, before rotation
        self.kept: WeakKeyDictionary[Cache, _Kept] = WeakKeyDictionary()

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one handle each."""
        layer = self.pruner.layer
        yield self.model.model.register_forward_pre_hook(self.read_ids, with_kwargs=True)
        yield self.layers[layer - 1].self_attn.q_proj.register_forward_hook(self.read_query)
        yield self.layers[layer].register_forward_pre_hook(self.prune, with_kwargs=True)
        for later in self.layers[layer + 1 :]:
            yield later.register_forward_pre_hook(self.narrow, with_kwargs=True)

    def read_ids(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise ValueError("pruning in the language model finds visual tokens by their ids: pass input_ids")
        if len(ids) != 1:
            raise ValueError(f"pruning in the language model takes one prompt at a time, got a batch of {len(ids)}")
        self.is_visual = torch.isin(ids[0], torch.tensor(self.visual_ids, device=ids.device))

    def read_query(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        self.query = output[:, -1:]

    def prune(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """At the pruning layer: in a prompt's first pass choose what stays, and drop the other rows."""
        cache = kwargs["past_key_values"]
        if not isinstance(cache, DynamicCache):
            raise ValueError(  # noqa: TRY004 - a wrong setting, not a wrong type
                f"pruning in the language model needs a DynamicCache (use_cache=True), got {type(cache).__name__}"
            )
        if cache.get_seq_length(self.pruner.layer) == 0:
            rows = self.stay(args[0], cache, kwargs["position_embeddings"])
            self.kept[cache] = _Kept(rows, args[0].shape[1])
            args = (args[0][:, rows], *args[1:])
        else:
            self.check_continues(cache, args[0].shape[1])
        return self.narrow(layer, args, kwargs)

    def check_continues(self, cache: Cache, tokens: int) -> None:
        """Raise `ValueError` unless the `tokens` of this pass follow, in `cache`, a prompt that was pruned here."""
        if cache not in self.kept:
            raise ValueError("this key-value cache was filled outside this pruner's `with`, or copied: start a new one")
        if tokens > 1 and self.is_visual.any():
            raise ValueError("visual tokens behind a prompt's first pass are not pruned: pass the prompt in one piece")

    def stay(self, states: Tensor, cache: DynamicCache, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Positions `[m]`, ascending, of the prompt's tokens that stay."""
        visual = self.is_visual.nonzero()[:, 0]
        if not len(visual):
            return torch.arange(len(self.is_visual), device=states.device)
        text = (~self.is_visual).nonzero()[:, 0]
        before: Any = cache.layers[self.pruner.layer - 1]
        prompt = Prompt(
            visual=visual,
            text=text[text > visual[0]],
            states=states[0],
            keys=before.keys[0],
            query=self.rotated_query(rotation),
        )
        stays = ~self.is_visual
        stays[visual] = self.pruner.choose(prompt)
        return stays.nonzero()[:, 0]

    def rotated_query(self, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """The last token's query `[query heads, head_dim]`, rotated to its position by the model's own function."""
        attention = self.layers[self.pruner.layer - 1].self_attn
        rotate = modules[type(attention).__module__].apply_rotary_pos_emb
        heads = self.query.view(1, 1, -1, attention.head_dim).transpose(1, 2)
        cos, sin = (table[:, -1:] for table in rotation)
        return rotate(heads, heads, cos, sin)[0][0, :, 0]

    def narrow(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Leave the dropped tokens out of a layer's rotation tables and attention mask."""
        kept, mask = self.kept[kwargs["past_key_values"]], kwargs["attention_mask"]
        narrowed: dict[str, Any] = {"position_ids": None}  # only read to find packed sequences, and there are none
        if kwargs["past_key_values"].get_seq_length(layer.get_submodule("self_attn").layer_idx) == 0:
            rows = kept.rows
            narrowed["position_embeddings"] = tuple(table[:, rows] for table in kwargs["position_embeddings"])
            if mask is not None:
                narrowed["attention_mask"] = mask[..., rows] if mask.ndim == 2 else mask[..., rows, :][..., rows]
        elif mask is not None:
            # made for the layers before, which hold every token: the prompt's kept columns, then all later ones
            later = torch.arange(kept.length, mask.shape[-1], device=mask.device)
            narrowed["attention_mask"] = mask[..., torch.cat([kept.rows, later])]
        return args, kwargs | narrowed
