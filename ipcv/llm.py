"""Which visual tokens the language model drops: DART, FastV and V2Drop. `ipcv.dropping` runs them."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.dropping import Prompt
from ipcv.pruning import LanguagePruner
from ipcv.tokens import kept_count


@dataclass(frozen=True, kw_only=True)
class OneLayerPruner(LanguagePruner):
    """Visual tokens pruned once, at a layer that follows one with keys."""

    LAYER: ClassVar[int] = 3

    keep: float = 0.5  # share of the prompt's visual tokens that the later layers see
    layer: int | None = None  # first decoder layer without the dropped tokens; None: 3, or the next one that can be

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"{type(self).__name__} keep={self.keep} must be more than 0 and at most 1")
        if self.layer is not None and self.layer < 1:
            raise ValueError(
                f"{type(self).__name__} layer={self.layer} must be at least 1: "
                "tokens are chosen by what the layer before did"
            )

    @property
    def prunes(self) -> bool:
        """Whether anything is dropped."""
        return self.keep < 1

    def steps(self, depth: int, keyless: Collection[int] = ()) -> tuple[int, ...]:
        """The pruning layer. Raises `ValueError` if it is past the last of `depth`, or follows one of `keyless`."""
        able = [layer for layer in range(1, depth) if layer - 1 not in keyless]
        chosen = self.layer
        if chosen is None:
            chosen = next((layer for layer in able if layer >= self.LAYER), self.LAYER)
        if chosen >= depth:
            raise ValueError(f"layer={chosen} is past the language model's last layer ({depth - 1}, counted from 0)")
        if chosen not in able:
            others = f"use one of {', '.join(map(str, able))}" if able else "use V2Drop, which needs none"
            raise ValueError(
                f"{type(self).__name__} layer={chosen} follows layer {chosen - 1} of the language model, which attends "
                f"linearly and has no keys to choose tokens by: {others}"
            )
        return (chosen,)

    def settled(self, depth: int, keyless: Collection[int]) -> tuple[Self, str | None]:
        """The same with its layer named, and a warning if it is not the usual one though none was asked for."""
        (layer,) = self.steps(depth, keyless)
        settled = replace(self, layer=layer)
        if self.layer is not None or layer == self.LAYER or not self.prunes:
            return settled, None
        return settled, (
            f"{type(self).__name__} drops visual tokens from the language model's layer {layer} on, not {self.LAYER}: "
            f"layer {self.LAYER - 1} of this model attends linearly and has no keys to choose them by"
        )

    def counts(self, visual: int) -> tuple[int, ...]:
        """How many of a prompt's `visual` tokens stay."""
        return (self.count(visual),)

    @abstractmethod
    def count(self, visual: int) -> int:
        """How many of `visual` tokens stay."""


@dataclass(frozen=True, kw_only=True)
class Dart(OneLayerPruner):
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
class FastV(OneLayerPruner):
    """Keep the visual tokens to which the last token attends most in the layer before (FastV, arXiv 2403.06764).

    Attention is averaged over heads and computed for that one query only, whatever attention kernel is in use. The
    layer before must see the whole prompt: one with a window would keep its end and nothing else.
    """

    method: Literal["fastv"] = field(default="fastv", init=False)

    def check(self, windows: Sequence[int], keyless: Collection[int] = ()) -> None:
        """Raise `ValueError` if the layer before has a window, or there is none."""
        (chosen,) = self.steps(len(windows), keyless)
        if window := windows[chosen - 1]:
            whole = [layer + 1 for layer, each in enumerate(windows[:-1]) if not each and layer not in keyless]
            raise ValueError(
                f"FastV layer={chosen} goes by what layer {chosen - 1} attends to, which in this model are the last "
                f"{window} tokens only: use layer {', '.join(map(str, whole))}, or another pruner"
            )

    def count(self, visual: int) -> int:
        """How many of `visual` tokens stay."""
        return max(1, kept_count(visual, self.keep)) if visual else 0

    def choose(self, prompt: Prompt) -> Tensor:
        """The most attended visual tokens, as a mask `[n]`."""
        heads, _, width = prompt.keys.shape
        query = prompt.query.view(heads, -1, width).float()  # grouped-query attention: query heads per key head
        scale = width**-0.5 if prompt.scale is None else prompt.scale
        logits = query @ prompt.keys.float().transpose(-1, -2) * scale
        attention = logits.softmax(-1).mean(dim=(0, 1))[prompt.visual]
        taken = torch.zeros_like(attention, dtype=torch.bool)
        taken[attention.topk(self.count(len(attention))).indices] = True
        return taken


@dataclass(frozen=True, kw_only=True)
class V2Drop(LanguagePruner):
    """Keep the visual tokens that the layer before changed most, in several steps (V2Drop, arXiv 2509.01552).

    Change is the L2 norm of the layer's whole update. The defaults are those of the published code for Qwen2-VL: of
    what is left a quarter stays from layer 3 on, a twentieth from layer 16, one token from layer 22. A deviation:
    those layers are of the 28 of its 2B and 7B models; in a language model of another depth they are scaled to it,
    rounded, and 1 at least.
    """

    LAYERS: ClassVar[tuple[int, ...]] = (3, 16, 22)
    DEPTH: ClassVar[int] = 28  # of the model that these layers were published for

    keep: tuple[float, ...] = (0.25, 0.05, 0.0)  # share of what is left that stays, per step; one token at least
    layers: tuple[int, ...] | None = None  # first decoder layers without the dropped tokens; None: as published
    method: Literal["v2drop"] = field(default="v2drop", init=False)

    def __post_init__(self) -> None:
        if not self.keep or not all(0 <= share <= 1 for share in self.keep):
            raise ValueError(f"V2Drop keep={self.keep} must be shares from 0 to 1, one per step")
        count = len(self.LAYERS if self.layers is None else self.layers)
        if len(self.keep) != count:
            raise ValueError(f"V2Drop keep={self.keep} must have a share for each of its {count} layers")
        if self.layers is not None and (self.layers[0] < 1 or not _ascending(self.layers)):
            raise ValueError(f"V2Drop layers={self.layers} must ascend from 1 at least")

    @property
    def prunes(self) -> bool:
        """Whether anything is dropped."""
        return any(share < 1 for share in self.keep)

    def steps(self, depth: int, keyless: Collection[int] = ()) -> tuple[int, ...]:  # noqa: ARG002 - all change tokens
        """The pruning layers of a language model of `depth` layers. Raises `ValueError` if it is not deep enough."""
        if self.layers is None:
            layers = tuple(max(1, round(layer * depth / self.DEPTH)) for layer in self.LAYERS)
            if not _ascending(layers):
                raise ValueError(f"V2Drop's layers do not fit into {depth} layers: name others")
            return layers
        if self.layers[-1] >= depth:
            raise ValueError(
                f"layers={self.layers} go past the language model's last layer ({depth - 1}, counted from 0)"
            )
        return self.layers

    def counts(self, visual: int) -> tuple[int, ...]:
        """How many of a prompt's `visual` tokens stay from each step on."""
        left = [visual]
        for share in self.keep:
            left.append(self._count(left[-1], share))
        return tuple(left[1:])

    def _count(self, visual: int, share: float) -> int:
        return max(1, kept_count(visual, share)) if visual else 0

    def choose(self, prompt: Prompt) -> Tensor:
        """The most changed visual tokens, as a mask `[n]`."""
        change = prompt.states[prompt.visual].float() - prompt.before[prompt.visual].float()
        norms = torch.linalg.vector_norm(change, dim=-1)
        taken = torch.zeros_like(norms, dtype=torch.bool)
        taken[norms.topk(self._count(len(norms), self.keep[prompt.step])).indices] = True
        return taken


def _ascending(layers: tuple[int, ...]) -> bool:
    return all(first < second for first, second in pairwise(layers))
