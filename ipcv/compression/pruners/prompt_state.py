"""What a pruner may choose visual tokens by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class PromptState:
    """What the layer before a pruning layer knows about a prompt when its visual tokens are chosen.

    Its length is that of what earlier pruning layers have left of it, and so are all positions.
    """

    visual: Tensor  # [n] positions of the visual tokens, ascending
    text: Tensor  # [t] positions of the text tokens after the first visual one
    before: Tensor  # [length, d] input of the layer before
    states: Tensor  # [length, d] output of the layer before, with what DeepStack adds
    keys: Tensor  # [heads, length, head_dim] its keys, as cached; [0, length, 0] if it attends linearly
    query: Tensor  # [query heads, head_dim] its query of the last token, rotated like the keys; likewise [0, 0]
    scale: float | None = None  # that its logits are multiplied by; None: 1 / √head_dim
    step: int = 0  # how many pruning layers came before this one
