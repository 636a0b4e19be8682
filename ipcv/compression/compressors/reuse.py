"""Reuse over time: which tokens of a pass are computed, and whose rows the others have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.encoder import Encoder, Heads
from ipcv.architecture.grids import Grid
from ipcv.compression.compressors.tensors.changes import Reference, Rule, computed_patches
from ipcv.compression.compressors.tensors.features import in_rows, in_squares
from ipcv.compression.compressors.tensors.packing import Division, PackedSegments

Attend = Callable[[Heads, PackedSegments, PackedSegments], Tensor]  # (heads, queries' segments, keys'): mixed values


@dataclass(frozen=True, eq=False)
class Carried:
    """The last slice of a pass, as far as the next pass of its video needs it."""

    picture: tuple[int, int]  # rows and columns of patches
    pixels: Reference
    rows: dict[str, Tensor] = field(default_factory=dict)  # [m, ...] of all its tokens, such as a block's keys


class Reuse:
    """The tokens of a pass that are computed, and the rows of all tokens from theirs.

    With `is_video` the passes have successive frames of one video, and each goes on where the one before ended. Else a
    slice is compared with those of its own pass only, and only in families whose grids keep videos and images apart.
    """

    def __init__(self, encoder: Encoder, rule: Rule, *, is_video: bool) -> None:
        self.encoder, self.rule, self.is_video = encoder, rule, is_video
        self.carried: Carried | None = None  # from the last pass that came to its end
        self.before: Carried | None  # what the pass under way goes on from
        self.after: Carried | None  # what it will leave behind
        self.row: Tensor  # [n] of each token among the rows carried over, then those of the computed tokens
        self.tokens: int  # of the last slice
        self.firsts: set[int]  # slices with which a video begins
        self.slices: Sequence[int]  # tokens of each
        self.places: Sequence[Tensor]  # [c] where in its slice each computed token is, slice by slice

    def begin(self, grids: Sequence[Grid], pixels: Tensor, *, anew: bool = False) -> list[Tensor]:
        """Begin a pass: which patches of each visual input are computed, `[slices, rows, columns]`.

        `pixels` are those of all patches, as `Encoder.pixels` gives them. A pass that begins `anew` goes on from none.
        """
        self.before = self.after = None
        if anew:
            self.carried = None
        masks, sizes = [], [frames * rows * columns for frames, rows, columns in grids]
        for grid, part in zip(grids, pixels.split(sizes), strict=True):
            if not self.is_video and not self.encoder.parts_videos:
                masks.append(torch.ones(grid, dtype=torch.bool, device=pixels.device))
                continue
            if self.carried is not None and self.carried.picture == grid[1:]:
                self.before = self.carried
            slices = in_rows(part.float(), grid, self.encoder.merge)
            mask, last = computed_patches(slices, self.rule, self.before.pixels if self.before else None)
            masks.append(mask)
            if self.is_video:
                self.after = Carried(grid[1:], last)
        return masks

    def computed_tokens(self, masks: Sequence[Tensor], order: Tensor | None) -> Tensor:
        """Which tokens of the pass are computed, `[n]`, by the `masks` of `begin`.

        `order` is `Encoder.order` of this pass. Tokens that are no patches are always computed.
        """
        patches = (in_squares(mask, self.encoder.merge) for mask in masks)
        tokens = [F.pad(each, (self.encoder.protected, 0), value=True) for each in patches]
        sizes = [each.numel() for each in tokens]
        flat = torch.cat([each.flatten() for each in tokens])
        flat = flat if order is None else flat[order]
        carried = len(next(iter(self.before.rows.values()))) if self.before else 0
        parts, ahead = [], flat.new_zeros((), dtype=torch.long)
        for part, each in zip(flat.split(sizes), tokens, strict=True):
            parts.append(source_rows(part.view(each.shape), carried + ahead))
            ahead = ahead + part.sum()
        self.row, self.tokens = torch.cat(parts), tokens[-1].shape[1]
        self.firsts = {0, *accumulate(len(each) for each in tokens)} - ({0} if self.before else set())
        return flat

    def place(self, computed: Tensor, slices: Division) -> None:
        """Take note of where the computed tokens are: at the positions `computed` `[c]` of all, and in which slices."""
        self.slices = slices.whole.lengths
        found = zip(computed.split(list(slices.kept.lengths)), slices.whole.starts, strict=True)
        self.places = [places - start for places, start in found]

    def attend(self, name: str, heads: Heads, division: Division, attend: Attend) -> Tensor:
        """Mixed values of queries `[k, heads, c]` over the keys and values of all tokens in their segments.

        Given are those `[c, heads, c]` of the computed tokens. On a CPU, where moving rows takes longer than attending
        to them, one slice's keys and values are kept, and in every slice only those of its computed tokens replaced.
        """
        query, *given = heads
        names = [f"keys {name}", f"values {name}"]
        if query.device.type != "cpu" or len(given[0]) == len(self.row):
            key, value = (self.spread(*each) for each in zip(names, given, strict=True))
            return attend((query, key, value), division.kept, division.whole)
        parts, counts = list(division.parts(self.slices)), [len(places) for places in self.places]
        queries = query.split([part.kept.rows for part in parts])
        held = [self.before.rows[name].clone() for name in names] if self.before else []
        mixed = []
        for number, rows in enumerate(zip(*(each.split(counts) for each in given), strict=True)):
            if number in self.firsts:
                held = [each.clone() for each in rows]
            else:
                for each, new in zip(held, rows, strict=True):
                    each.index_copy_(0, self.places[number], new)
            mixed.append(attend((queries[number], held[0], held[1]), parts[number].kept, parts[number].whole))
        if self.after is not None:
            self.after.rows.update(zip(names, held, strict=True))
        return torch.cat(mixed)

    def spread(self, name: str, computed: Tensor) -> Tensor:
        """Rows `[n, ...]` of all tokens from those of the computed ones `[c, ...]`, in their order.

        The next pass finds those of the last slice by `name`, as this one finds those of the pass before.
        """
        every = computed
        if len(computed) < len(self.row):
            rows = computed if self.before is None else torch.cat((self.before.rows[name], computed))
            every = rows[self.row]
        if self.after is not None:
            self.after.rows[name] = every[len(every) - self.tokens :].clone()
        return every

    def end(self) -> None:
        """End a pass: the next one goes on from here."""
        self.carried = self.after
        self.before = self.after = None


def source_rows(is_computed: Tensor, ahead: int | Tensor) -> Tensor:
    """For the tokens of a video, `[s * m]`, the rows of those that were last computed at their places.

    `is_computed` `[s, m]` says which are computed: their rows follow `ahead` others. A token that was computed in none
    of these slices has the row of its place, from 0 on.
    """
    slices, tokens = is_computed.shape
    number = torch.arange(slices, device=is_computed.device)[:, None]
    latest = torch.where(is_computed, number, -1).cummax(0).values  # slice in which each was last computed
    own = is_computed.flatten().cumsum(0).view(slices, tokens) - 1
    place = torch.arange(tokens, device=is_computed.device).expand(slices, -1)
    return torch.where(latest < 0, place, ahead + own.gather(0, latest.clamp_min(0))).flatten()
