"""DART: keep the visual tokens that duplicate a few pivots least."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.shapes import TextShape
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.compression.pruners.pruner import OneLayerPruner


@dataclass(frozen=True, kw_only=True)
class Dart(OneLayerPruner):
    """Keep the tokens that duplicate a few pivots least (DART, arXiv 2502.11494).

    Pivots are the 4 visual and 4 text tokens with the largest L1 norm of the previous layer's keys. Each in turn
    takes the `n * keep / 8` visual tokens not yet taken whose hidden states are least like its own (cosine).
    """

    name: ClassVar[str] = "dart"
    arxiv: ClassVar[str] = "2502.11494"
    departures: ClassVar[str] = ""

    PIVOTS: ClassVar[int] = 4  # of each kind
    method: Literal["dart"] = field(default="dart", init=False)

    def count(self, visual: int) -> int:
        """The number of `visual` tokens that stay: the visual pivots and what all pivots take."""
        pivots = min(self.PIVOTS, visual)
        return min(visual, pivots + 2 * self.PIVOTS * self._share(visual))

    def _share(self, visual: int) -> int:
        return int(visual * self.keep / (2 * self.PIVOTS))

    def choose(self, prompt: PromptState) -> Tensor:
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

    def flops(self, shape: TextShape, length: int, visual: int) -> int:
        """FLOPs of finding the pivots and what is like them; all text pivots are taken to be found."""
        pivots = min(self.PIVOTS, visual) + min(self.PIVOTS, length - visual)
        norms = 2 * length * shape.key_width  # magnitude, sum
        unit = 3 * length * shape.width  # square, sum, division
        return norms + unit + 2 * pivots * visual * shape.width
