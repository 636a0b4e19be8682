"""Divide the tokens of a pass, all of them and the kept ones, into frames or windows of attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.grids import bounds
from ipcv.compression.compressors.tensors.tokens import kept_bounds, positions


@dataclass(frozen=True, eq=False)
class PackedSegments:
    """Segments of packed rows `[n, ...]`, whose lengths the host knows; a segment may be empty."""

    bounds: Tensor  # [s + 1] int32, on the device of the rows
    lengths: Sequence[int]  # [s]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "PackedSegments":
        """Segments of these lengths."""
        return cls(bounds(lengths, device), lengths)

    @property
    def count(self) -> int:
        """The number of segments."""
        return len(self.lengths)

    @cached_property
    def rows(self) -> int:
        """The number of rows, n."""
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Rows of the longest segment."""
        return max(self.lengths)

    @property
    def is_even(self) -> bool:
        """Whether all segments are equally long, so that none has to be padded."""
        return self.rows == self.count * self.longest

    @cached_property
    def slots(self) -> Tensor:
        """For each row `[n]`, its position once every segment is padded to the longest."""
        places = torch.arange(self.rows, device=self.bounds.device)
        owner = self.owner(places)
        return owner * self.longest + places - self.bounds[owner]

    def owner(self, places: Tensor) -> Tensor:
        """The segment of each row in `places`."""
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
        """A mask `[s, 1, 1, longest]` of the padded rows that are real; None: all are."""
        if self.is_even:
            return None
        lengths = self.bounds.diff()[:, None, None, None]
        return torch.arange(self.longest, device=lengths.device) < lengths


@dataclass(frozen=True, eq=False)
class Division:
    """All tokens of a pass and the kept ones, divided in one way: into frames or into windows."""

    whole: PackedSegments  # of all tokens
    kept: PackedSegments  # of the kept tokens, in equally many segments

    @cached_property
    def alone(self) -> PackedSegments:
        """Segments of the kept tokens without the empty ones."""
        lengths = [length for length in self.kept.lengths if length]
        filled = positions(self.kept.bounds.diff() > 0, len(lengths))
        return PackedSegments(F.pad(self.kept.bounds[1:][filled], (1, 0)), lengths)


def divide(wholes: Sequence[PackedSegments], keep: Tensor) -> list[Division]:
    """Divide the tokens at the ascending positions `keep` `[k]` in every way that all tokens are divided.

    The lengths of all segments come from the device in one transfer.
    """
    kept = [kept_bounds(whole.bounds, keep, whole.rows) for whole in wholes]
    lengths = iter(torch.cat([each.diff() for each in kept]).tolist())
    return [
        Division(whole, PackedSegments(each, list(islice(lengths, whole.count))))
        for whole, each in zip(wholes, kept, strict=True)
    ]
