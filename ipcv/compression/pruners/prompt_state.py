"""A prompt inside the decoder: the state that a pruner chooses visual tokens by, and which tokens stayed."""

from bisect import bisect_right
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import Tensor
from transformers import Cache


@dataclass(frozen=True)
class PromptState:
    """The state of a prompt between a pruning layer and the layer before it, where visual tokens are chosen.

    The prompt is as long as earlier pruning layers have left it, and all positions count in that length.
    """

    visual: Tensor  # [n] positions of the visual tokens, ascending
    text: Tensor  # [t] positions of the text tokens after the first visual one
    before: Tensor  # [length, d] input of the layer before
    states: Tensor  # [length, d] output of the layer before, DeepStack embeddings added
    keys: Tensor  # [heads, length, head_dim] keys of the layer before, as cached; [0, length, 0] for linear attention
    query: Tensor  # [query heads, head_dim] the last token's query there, rotated; [0, 0] for linear attention
    scale: float | None = None  # factor on that layer's attention logits; None: 1 / √head_dim
    step: int = 0  # number of pruning layers before this one


@dataclass(frozen=True)
class KeptTokens:
    """The tokens of one prompt that stay behind each pruning layer."""

    rows: tuple[Tensor, ...]  # [m] each, per pruning layer passed: positions in the whole prompt, ascending
    length: int  # of the whole prompt


@dataclass
class PrunedPrompts:
    """The pass under way and, beside each key-value cache, the tokens of its prompt that stay."""

    steps: tuple[int, ...]  # the pruning layers, ascending
    is_visual: Tensor = field(init=False)  # [length] of the pass under way
    kept: WeakKeyDictionary[Cache, KeptTokens] = field(default_factory=WeakKeyDictionary)

    def rows(self, cache: Cache, layer: int) -> Tensor | None:
        """Positions `[m]` in the whole prompt of the tokens that `layer` sees; None: no pruning layer came before."""
        passed = bisect_right(self.steps, layer)
        return self.kept[cache].rows[passed - 1] if passed else None
