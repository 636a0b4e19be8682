"""FLOPs of a pass of DINOv2, and how many tokens a rule may keep for a given number of them.

They are counted as in `ipcv.architecture.shapes`: matrix products, and all that compression adds.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ipcv import IPCV
from ipcv.architecture.shapes import VisionShape
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import block_flops, encoder_flops, ends_flops
from ipcv.compression.compressors.ipcv_flops import restore_flops, split_flops
from ipcv.compression.shares import kept_count


class OverBudgetError(ValueError):
    """Even one kept token costs too much."""


@dataclass(frozen=True)
class Cost:
    """FLOPs of one pass over `frames` frames of `patches` patches each, and one CLS token."""

    shape: VisionShape
    frames: int
    patches: int

    @classmethod
    def of(cls, config: Any, frames: int, patches: int) -> "Cost":
        """Of a pass of the model with this `config` of DINOv2."""
        shape = VisionShape(
            blocks=config.num_hidden_layers,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            mlp_width=int(config.hidden_size * config.mlp_ratio),
            patch_values=config.num_channels * config.patch_size**2,
            merge=1,
            hidden_width=0,  # nothing is merged behind the blocks
            out_width=0,
            head=1,
        )
        return cls(shape, frames, patches)

    @property
    def tokens(self) -> list[int]:
        """Tokens of each frame."""
        return [1 + self.patches] * self.frames

    @property
    def dense(self) -> int:
        """Nothing is dropped."""
        return encoder_flops(self.shape, PassWork(frames=self.tokens))

    def compressed(self, compressor: IPCV, kept: Sequence[int], computed: Sequence[int] = ()) -> int:
        """FLOPs with `kept` and `computed` tokens of each frame, CLS included, as `IPCV` counts them."""
        return encoder_flops(self.shape, PassWork(frames=self.tokens, computed=computed, kept=kept), compressor)

    def alone(self, tokens: Sequence[int]) -> int:
        """FLOPs where all blocks have only so many tokens of each frame, CLS included, and these only each other."""
        ends = ends_flops(self.shape, self.frames * self.patches)
        return ends + self.shape.blocks * block_flops(self.shape, tokens, sum(tokens))

    def published(self, compressor: IPCV) -> int:
        """Count the FLOPs of the paper's code, which computes queries and outputs of dropped tokens as well.

        Kept tokens are taken to be spread evenly, which costs least.
        """
        width, patches = self.shape.width, self.frames * self.patches
        tokens, stable = self.frames * (1 + self.patches), compressor.stable(self.shape.blocks)
        count = kept_count(patches, compressor.keep or 0.0)
        each = 1 + count / self.frames
        mlp = 4 * self.frames * each * width * self.shape.mlp_width
        stabilized = 8 * tokens * width**2 + 4 * self.frames * (1 + self.patches) ** 2 * width + mlp
        shrunken = 8 * self.frames * each * width**2 + 4 * self.frames * each**2 * width + mlp
        later = stable * stabilized + (self.shape.blocks - compressor.layer - stable) * shrunken
        choice = split_flops(width, patches, count, compressor)
        rebuilding = (stable + 1) * restore_flops(width, tokens, count + self.frames, compressor)
        first = compressor.layer * block_flops(self.shape, self.tokens, tokens)
        return ends_flops(self.shape, patches) + first + choice + rebuilding + round(later)


def most_within(budget: float, cost: Callable[[int], float], most: int) -> int:
    """The largest count of 1 to `most` whose cost is at most `budget`, by bisection over a rising `cost`.

    Raises `OverBudgetError` if even one is too much.
    """
    found = bisect_right(range(1, most + 1), budget, key=cost)
    if not found:
        raise OverBudgetError(f"keeping one token costs {cost(1):.3g} FLOPs, more than {budget:.3g}")
    return found
