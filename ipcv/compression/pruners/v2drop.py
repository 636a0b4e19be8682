"""V2Drop: keep the visual tokens that the layer before changed most."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ipcv.architecture.shapes import TextShape
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.compression.pruners.pruner import Pruner
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class V2Drop(Pruner):
    """Keep the visual tokens that the layer before changed most, in several steps (V2Drop, arXiv 2509.01552).

    Change is the L2 norm of the layer's whole update. The defaults are those of the published code for Qwen2-VL: of
    what is left a quarter stays from layer 3 on, a twentieth from layer 16, one token from layer 22. A deviation:
    those layers are of the 28 of its 2B and 7B models; in a language model of another depth they are scaled to it,
    rounded, and 1 at least.
    """

    name: ClassVar[str] = "v2drop"
    arxiv: ClassVar[str] = "2509.01552"
    departures: ClassVar[str] = "its layers, published for models of 28, are scaled to the depth of the model"

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
        """Whether any token is dropped."""
        return any(share < 1 for share in self.keep)

    def steps(self, depth: int, linear: Collection[int] = ()) -> tuple[int, ...]:  # noqa: ARG002 - all change tokens
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
        """Numbers of a prompt's `visual` tokens that stay, from each pruning layer on."""
        left = [visual]
        for share in self.keep:
            left.append(self._count(left[-1], share))
        return tuple(left[1:])

    def _count(self, visual: int, share: float) -> int:
        return max(1, kept_count(visual, share)) if visual else 0

    def choose(self, prompt: PromptState) -> Tensor:
        """The most changed visual tokens, as a mask `[n]`."""
        change = prompt.states[prompt.visual].float() - prompt.before[prompt.visual].float()
        norms = torch.linalg.vector_norm(change, dim=-1)
        taken = torch.zeros_like(norms, dtype=torch.bool)
        taken[norms.topk(self._count(len(norms), self.keep[prompt.step])).indices] = True
        return taken

    def flops(self, shape: TextShape, length: int, visual: int) -> int:  # noqa: ARG002 - text is not compared
        """FLOPs of all steps: difference, square and sum over the visual tokens that are left."""
        return 3 * sum((visual, *self.counts(visual)[:-1])) * shape.width


def _ascending(layers: tuple[int, ...]) -> bool:
    return all(first < second for first, second in pairwise(layers))
