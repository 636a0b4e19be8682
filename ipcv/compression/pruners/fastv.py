"""FastV: keep the visual tokens to which the last token attends most."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.compression.pruners.pruner import OneLayerPruner
from ipcv.compression.shares import kept_count


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
