"""Divide the tokens of a pass, all of them and the kept ones, into frames or windows of attention."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise

import torch
from torch import Tensor

from ipcv.architecture.grids import bounds
from ipcv.compression.compressors.tensors.tokens import kept_bounds


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

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each segment."""
        return [0, *accumulate(self.lengths)][:-1]

    def owner(self, places: Tensor) -> Tensor:
        """The segment of each row in `places`."""
        return torch.searchsorted(self.bounds, places, right=True) - 1

    def part(self, first: int, end: int) -> "PackedSegments":
        """The segments from `first` up to `end`, as those of their own rows."""
        return PackedSegments(self.bounds[first : end + 1] - self.bounds[first], self.lengths[first:end])

    def stacked(self, rows: Tensor, members: Sequence[int]) -> Tensor:
        """Rows of equally long segments, those at the positions `members`, as `[members, length, ...]`.

        Nothing is copied if these segments follow each other.
        """
        starts, length = [self.starts[member] for member in members], self.lengths[members[0]]
        first, end = starts[0], starts[0] + len(members) * length
        if starts == [*range(first, end, length)]:
            return rows[first:end].unflatten(0, (len(members), length))
        return torch.stack([rows[start : start + length] for start in starts])


def alike(queries: Sequence[int], keys: Sequence[int]) -> list[list[int]]:
    """Positions of segments that are alike in how many queries and how many keys they have.

    Each list can be attended to at once without padding. Segments that have no queries are left out.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for position, lengths in enumerate(zip(queries, keys, strict=True)):
        if lengths[0]:
            groups.setdefault(lengths, []).append(position)
    return list(groups.values())


@dataclass(frozen=True, eq=False)
class Division:
    """All tokens of a pass and the kept ones, divided in one way: into frames or into windows."""

    whole: PackedSegments  # of all tokens
    kept: PackedSegments  # of the kept tokens, in equally many segments

    def parts(self, sizes: Sequence[int]) -> Iterator["Division"]:
        """The division of each of these numbers of tokens, which follow each other and are made of whole segments."""
        number = {start: segment for segment, start in enumerate([*self.whole.starts, self.whole.rows])}
        for start, end in pairwise([0, *accumulate(sizes)]):
            bounds = number[start], number[end]
            yield Division(self.whole.part(*bounds), self.kept.part(*bounds))


def divide(wholes: Sequence[PackedSegments], is_kept: Tensor) -> list[Division]:
    """Divide the tokens where `is_kept` `[n]` is set in every way that all tokens are divided.

    The lengths of all segments come from the device in one transfer.
    """
    kept = [kept_bounds(whole.bounds, is_kept) for whole in wholes]
    lengths = iter(torch.cat([each.diff() for each in kept]).tolist())
    return [
        Division(whole, PackedSegments(each, list(islice(lengths, whole.count))))
        for whole, each in zip(wholes, kept, strict=True)
    ]
