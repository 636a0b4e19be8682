"""FLOPs of a pass of DINOv2, and how many tokens a rule may keep for a given number of them.

They are counted as in `ipcv.architecture.shapes`: matrix products, and all that compression adds.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ipcv import IPCV
from ipcv.compression.compressors.ipcv_flops import restore_flops, split_flops
from ipcv.compression.shares import kept_count


class OverBudgetError(ValueError):
    """Even one kept token costs too much."""


@dataclass(frozen=True)
class Cost:
    """FLOPs of one pass over `frames` frames of `patches` patches each, and one CLS token."""

    blocks: int
    width: int
    mlp_width: int
    patch_values: int  # pixel values in one patch
    frames: int
    patches: int

    @classmethod
    def of(cls, config: Any, frames: int, patches: int) -> "Cost":
        """Of a pass of the model with this `config` of DINOv2."""
        width, values = config.hidden_size, config.num_channels * config.patch_size**2
        return cls(config.num_hidden_layers, width, int(width * config.mlp_ratio), values, frames, patches)

    @property
    def dense(self) -> int:
        """Nothing is dropped."""
        return self._entrance + self.blocks * self._block

    def compressed(self, compressor: IPCV, kept: Sequence[int]) -> int:
        """Dropped tokens are only keys and values; `kept` of each frame, CLS included, as `IPCV` counts them.

        Frames attend side by side, padded to the one that keeps most: padding counts as work.
        """
        tokens, stable = self.frames * (1 + self.patches), compressor.stable(self.blocks)
        most, every = max(kept), sum(kept)
        stabilized = self._linear(every, tokens) + self._attention(most * (1 + self.patches))
        shrunken = self._linear(every, every) + self._attention(most**2)
        return self._around(compressor) + stable * stabilized + (self.blocks - compressor.layer - stable) * shrunken

    def published(self, compressor: IPCV) -> int:
        """Count the FLOPs of the paper's code, which computes queries and outputs of dropped tokens as well.

        Kept tokens are taken to be spread evenly, which costs least, and nothing is padded.
        """
        tokens, stable = self.frames * (1 + self.patches), compressor.stable(self.blocks)
        each = 1 + kept_count(self.frames * self.patches, compressor.keep) / self.frames
        mlp = 4 * self.frames * each * self.width * self.mlp_width
        stabilized = 8 * tokens * self.width**2 + self._attention((1 + self.patches) ** 2) + mlp
        shrunken = 8 * self.frames * each * self.width**2 + self._attention(each**2) + mlp
        later = stable * stabilized + (self.blocks - compressor.layer - stable) * shrunken
        return self._around(compressor) + round(later)

    def _around(self, compressor: IPCV) -> int:
        """Count everything but the blocks on fewer tokens."""
        patches, stable = self.frames * self.patches, compressor.stable(self.blocks)
        kept = kept_count(patches, compressor.keep)
        choice = split_flops(self.width, patches, kept, compressor)
        rebuilding = (stable + 1) * restore_flops(self.width, patches, kept, compressor)
        return self._entrance + compressor.layer * self._block + choice + rebuilding

    @property
    def _entrance(self) -> int:
        return 2 * self.frames * self.patches * self.patch_values * self.width

    @property
    def _block(self) -> int:
        tokens = self.frames * (1 + self.patches)
        return self._linear(tokens, tokens) + self._attention((1 + self.patches) ** 2)

    def _linear(self, queries: int, keys: int) -> int:
        """Queries, outputs and feed-forward part of some tokens; keys and values of others."""
        return 4 * (queries + keys) * self.width**2 + 4 * queries * self.width * self.mlp_width

    def _attention(self, pairs: float) -> int:
        """Attention in all frames, of so many pairs of a query and a key in each."""
        return round(4 * self.frames * pairs * self.width)


def most_within(budget: float, cost: Callable[[int], float], most: int) -> int:
    """The largest count of 1 to `most` whose cost is at most `budget`, by bisection over a rising `cost`.

    Raises `OverBudgetError` if even one is too much.
    """
    found = bisect_right(range(1, most + 1), budget, key=cost)
    if not found:
        raise OverBudgetError(f"keeping one token costs {cost(1):.3g} FLOPs, more than {budget:.3g}")
    return found
