"""How the tokens of a pass divide into frames or windows: all of them, and the kept ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.grids import bounds
from ipcv.compression.compressors.tokens import kept_bounds, positions


@dataclass(frozen=True, eq=False)
class PackedSegments:
    """How packed rows `[n, ...]` divide into segments; a segment may be empty. The host knows all lengths."""

    bounds: Tensor  # [s + 1] int32, where the rows are
    lengths: Sequence[int]  # [s]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "PackedSegments":
        """Segments of these lengths."""
        return cls(bounds(lengths, device), lengths)

    @property
    def count(self) -> int:
        """How many segments."""
        return len(self.lengths)

    @cached_property
    def rows(self) -> int:
        """How many rows, n."""
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Rows of the longest segment."""
        return max(self.lengths)

    @property
    def is_even(self) -> bool:
        """Whether all are equally long, so that nothing has to be padded."""
        return self.rows == self.count * self.longest

    @cached_property
    def slots(self) -> Tensor:
        """The row `[n]` of each token once every segment is padded to the longest."""
        places = torch.arange(self.rows, device=self.bounds.device)
        owner = self.owner(places)
        return owner * self.longest + places - self.bounds[owner]

    def owner(self, places: Tensor) -> Tensor:
        """Which segment each of some rows is in."""
        return torch.searchsorted(self.bounds, places, right=True) - 1

    def pad(self, rows: Tensor) -> Tensor:
        """`rows` `[n, ...]` as `[s, longest, ...]`, zeros behind the shorter segments."""
        if not self.is_even:
            rows = rows.new_zeros(self.count * self.longest, *rows.shape[1:]).index_copy_(0, self.slots, rows)
        return rows.unflatten(0, (self.count, self.longest))

    def unpad(self, padded: Tensor) -> Tensor:
        """The inverse of `pad`."""
        rows = padded.flatten(0, 1)
        return rows if self.is_even else rows[self.slots]

    @cached_property
    def mask(self) -> Tensor | None:
        """Which padded rows are real, `[s, 1, 1, longest]`; None if all are."""
        if self.is_even:
            return None
        lengths = self.bounds.diff()[:, None, None, None]
        return torch.arange(self.longest, device=lengths.device) < lengths


@dataclass(frozen=True, eq=False)
class Division:
    """One way to divide a pass: its frames, or its windows."""

    whole: PackedSegments  # of all tokens
    kept: PackedSegments  # of the kept ones, as many

    @cached_property
    def alone(self) -> PackedSegments:
        """The kept tokens without the segments of which nothing is left."""
        lengths = [length for length in self.kept.lengths if length]
        filled = positions(self.kept.bounds.diff() > 0, len(lengths))
        return PackedSegments(F.pad(self.kept.bounds[1:][filled], (1, 0)), lengths)


def divide(wholes: Sequence[PackedSegments], keep: Tensor) -> list[Division]:
    """How the tokens at the positions `keep` `[k]`, ascending, divide in each way that all tokens do.

    The device is asked once, for the lengths in all of them.
    """
    kept = [kept_bounds(whole.bounds, keep, whole.rows) for whole in wholes]
    lengths = iter(torch.cat([each.diff() for each in kept]).tolist())
    return [
        Division(whole, PackedSegments(each, list(islice(lengths, whole.count))))
        for whole, each in zip(wholes, kept, strict=True)
    ]
