"""The videos and images of one question: found, measured against the budget of visual tokens, then opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Cached, extent_of, share_of
from ipcv.limits.budget import Budget, Limit, Share, allot, explain
from ipcv.limits.extent import Extent
from ipcv.limits.measure import BudgetPlanner
from ipcv.media.clip import Clip
from ipcv.media.sources import Found, Source, find
from ipcv.options import Options
from ipcv.text import shown

Input = Source | Encoded  # what a question can be about


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedInputs:
    """What there is to encode, and what is encoded already, in the order of the prompt."""

    inputs: tuple[Clip | Encoded, ...]
    shares: tuple[Share, ...]  # of the budget
    budget: Budget

    def warnings(self) -> Iterator[str]:
        """What is known about reading by now, with names if there are several, and what the budget took."""
        names = [_name(each) for each in self.inputs]
        yield from explain(self.budget, list(zip(names, self.shares, strict=True)))
        for number, (each, name) in enumerate(zip(self.inputs, names, strict=True), 1):
            start = f"{name or f'video {number}'}: " if len(names) > 1 else ""
            yield from (f"{start}{warning}" for warning in each.warnings)


class Opener:
    """How the videos of one question are opened under `options`; encodings that are in `cache` are taken from there."""

    def __init__(self, options: Options, measure: BudgetPlanner, cache: Cached | None = None) -> None:
        self.options, self.measure, self.cache = options, measure, cache

    def open(self, asked: Sequence[Input], limit: Limit) -> OpenedInputs:
        """All of `asked`, within `limit`; more if it is the context's and the least that there can be is more.

        Raises `VideoError`, and `ValueError` where a limit that was asked for is too low.
        """
        known = [self.known(each, limit) for each in asked]
        parts = _divided(limit, [(self.wanted(each), self.extent(each)) for each in known])
        if len(asked) > 1:
            known = [self.known(each, part, found) for each, part, found in zip(asked, parts, known, strict=True)]
        opened = [self.opened(found, part) for found, part in zip(known, parts, strict=True)]
        shares = tuple(share for _, share in opened)
        return OpenedInputs(inputs=tuple(each for each, _ in opened), shares=shares, budget=Budget.of(limit, shares))

    def known(self, video: Input, limit: Limit, before: Any = None) -> Found | Clip | Encoded:
        """What there is to see, or its encoding where the cache has it as of `limit`; `before`: what was known."""
        if isinstance(video, Encoded | Clip):
            return video
        cached = self.cache.load(str(video), limit) if self.cache and isinstance(video, str | Path) else None
        if cached or isinstance(before, Found):
            return cached or before
        step = self.measure.patches.temporal_patch_size
        return find(video, self.options.sampling, self.options.frame_batch, step)

    def wanted(self, found: Found | Clip | Encoded) -> int:
        """The visual tokens that the settings alone would put into the prompt."""
        if isinstance(found, Encoded) and found.share:
            return found.share.asked
        return self.extent(found).tokens

    def extent(self, found: Found | Clip | Encoded) -> Extent:
        """How much there is of it."""
        return self.measure.found(found) if isinstance(found, Found) else extent_of(self.measure, found)

    def opened(self, found: Found | Clip | Encoded, limit: Limit) -> tuple[Clip | Encoded, Share]:
        """It, as far as there is room for it, and its share of the budget."""
        if isinstance(found, Found):
            return self.measure.read(found, limit)
        return found, share_of(self.measure, found, limit)


def _divided(limit: Limit, wanted: Sequence[tuple[int, Extent]]) -> list[Limit]:
    """What each of several videos may have, by the visual tokens that it wants, and by the text beside them."""
    if len(wanted) == 1:
        return [limit]
    visual = allot([tokens for tokens, _ in wanted], limit.visual)
    if limit.context is None:
        return [replace(limit, visual=most) for most in visual]
    whole = allot([tokens + extent.pictures * extent.text for tokens, extent in wanted], limit.context)
    return [replace(limit, visual=most, context=room) for most, room in zip(visual, whole, strict=True)]


def _name(video: Clip | Encoded) -> str:
    return shown((video.video if isinstance(video, Encoded) else video.facts).path)
