"""FastV: keep the visual tokens to which the last token attends most."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ipcv.architecture.shapes import Need, TextShape
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.compression.pruners.pruner import OneLayerPruner
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class FastV(OneLayerPruner):
    """Keep the visual tokens to which the last token attends most in the layer before (FastV, arXiv 2403.06764).

    Attention is averaged over heads and computed for that one query only, whatever attention kernel is in use. The
    layer before must see the whole prompt: one with a window would keep its end and nothing else.
    """

    name: ClassVar[str] = "fastv"
    arxiv: ClassVar[str] = "2403.06764"
    departures: ClassVar[str] = (
        "the layer that scores attends causally, and later layers get the mask of the tokens that stay"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"keys", "whole_prompt"})

    method: Literal["fastv"] = field(default="fastv", init=False)

    def check(self, shape: TextShape) -> None:
        """Raise `ValueError` if the layer before has a window, or there is none."""
        (chosen,) = self.steps(shape.layers, shape.linear_layers)
        if window := shape.window(chosen - 1):
            others = range(1, shape.layers)
            whole = [layer for layer in others if not shape.window(layer - 1) and layer - 1 not in shape.linear_layers]
            raise ValueError(
                f"FastV layer={chosen} goes by what layer {chosen - 1} attends to, which in this model are the last "
                f"{window} tokens only: use layer {', '.join(map(str, whole))}, or another pruner"
            )

    def count(self, visual: int) -> int:
        """The number of `visual` tokens that stay."""
        return max(1, kept_count(visual, self.keep)) if visual else 0

    def choose(self, prompt: PromptState) -> Tensor:
        """The most attended visual tokens, as a mask `[n]`."""
        heads, _, width = prompt.keys.shape
        query = prompt.query.view(heads, -1, width).float()  # grouped-query attention: query heads per key head
        scale = width**-0.5 if prompt.scale is None else prompt.scale
        logits = query @ prompt.keys.float().transpose(-1, -2) * scale
        attention = logits.softmax(-1).mean(dim=(0, 1))[prompt.visual]
        taken = torch.zeros_like(attention, dtype=torch.bool)
        taken[attention.topk(self.count(len(attention))).indices] = True
        return taken

    def flops(self, shape: TextShape, length: int, visual: int) -> int:  # noqa: ARG002 - all tokens are attended to
        """FLOPs of one query's attention over the whole prompt."""
        softmax = 6 * shape.heads * length  # scale, subtract, exponential, sum, division; mean over heads
        return 2 * length * shape.query_width + softmax
