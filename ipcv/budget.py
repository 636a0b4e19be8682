"""How many visual tokens a prompt may have, and what is lowered, in which order, so that it has no more."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ipcv.preprocess import FrameSettings
from ipcv.reducers import EVS, Reducer

PICTURE = 128  # visual tokens of a picture (a temporal patch) down to which pixels go first, as in Qwen's own tools
KEEP = 0.25  # share of visual tokens down to which keep goes
ORDER = (
    "frames, evenly over the clip, to one per second",
    f"pixels, to {PICTURE} visual tokens a picture",
    f"keep, what the reducer leaves in the prompt (evs if there is none), to {KEEP}",
    "frames, evenly, to as few as it takes",
    "pixels, to the least that the model takes",
)

What = Literal["frames", "pixels", "keep"]
Origin = Literal["context", "option", "memory"]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """One thing that was lowered."""

    what: What
    before: float  # frames; pixels per frame; share of visual tokens that stays
    after: float
    visual_tokens: int  # that this leaves at most


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one video or image may have of the budget, and what was lowered for that."""

    asked: int  # visual tokens that the settings alone would put into the prompt
    limit: int
    lowered: tuple[Lowered, ...] = ()  # in the order in which it was done

    def reducer(self, given: Any) -> Any:
        """The reducer in place of the one `given` in the settings."""
        keep = [each.after for each in self.lowered if each.what == "keep"]
        return (given or EVS()).at(keep[-1]) if keep else given


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many visual tokens the prompt may have."""

    limit: int
    source: Origin  # what the model's context leaves; max_visual_tokens; what was left after memory ran out
    asked: int  # that the settings alone would put into it
    order: tuple[str, ...] = ORDER  # in which what is too much is lowered, each only as far as needed


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of one video or image is looked at."""

    frames: int
    height: int  # as displayed
    width: int
    patches: FrameSettings
    reducer: Reducer | None

    @property
    def pictures(self) -> int:
        """Temporal patches."""
        return self.frames // self.patches.temporal_patch_size

    @property
    def pixels(self) -> int:
        """Per frame, after resizing."""
        height, width = self.patches.resize(self.height, self.width, self.frames)
        return height * width

    @property
    def of_picture(self) -> int:
        """Visual tokens of a picture."""
        return self.patches.tokens(*self.patches.resize(self.height, self.width, self.frames))

    @property
    def tokens(self) -> int:
        """Visual tokens that it puts into the prompt at most."""
        return self.most(self.pictures, self.of_picture)

    def most(self, pictures: int, tokens: int) -> int:
        """The same for other numbers of pictures and of tokens in each."""
        return self.reducer.most(pictures, tokens) if self.reducer else pictures * tokens


def meet(
    extent: Extent, limit: int, seconds: float, *, may_reduce: bool, only_reduce: bool = False
) -> tuple[Extent, tuple[Lowered, ...]]:
    """`extent` lowered in `ORDER` until it has `limit` visual tokens at most, or can be lowered no further.

    `seconds` are those from its first frame to its last; `may_reduce`: whether tokens may be left out of the prompt;
    `only_reduce`: its frames are chosen already, or encoded.
    """
    step = extent.patches.temporal_patch_size
    steady = math.ceil((math.floor(seconds) + 1) / step) * step
    steps: list[tuple[What, Callable[[Extent], Extent]]] = [
        ("frames", lambda each: _fewer_frames(each, limit, steady)),
        ("pixels", lambda each: _fewer_pixels(each, limit, PICTURE)),
        ("keep", lambda each: _fewer_kept(each, limit) if may_reduce else each),
        ("frames", lambda each: _fewer_frames(each, limit, step)),
        ("pixels", lambda each: _fewer_pixels(each, limit, 1)),
    ]
    lowered = []
    for what, lower in steps:
        if extent.tokens <= limit or (only_reduce and what != "keep"):
            continue
        before, extent = extent, lower(extent)
        if extent != before:
            amounts = (_amount(each, what) for each in (before, extent))
            lowered.append(Lowered(what=what, before=next(amounts), after=next(amounts), visual_tokens=extent.tokens))
    return extent, tuple(lowered)


def _amount(extent: Extent, what: What) -> float:
    if what == "keep":
        keep = getattr(extent.reducer, "keep", None)  # of DTD by threshold there is none
        return 1.0 if keep is None else keep
    return extent.frames if what == "frames" else extent.pixels


def _fewer_frames(extent: Extent, limit: int, least: int) -> Extent:
    step, tokens = extent.patches.temporal_patch_size, extent.of_picture
    fit = bisect_right(range(extent.pictures), limit, key=lambda pictures: extent.most(pictures, tokens)) - 1
    return replace(extent, frames=min(extent.frames, max(fit * step, least)))


def _fewer_pixels(extent: Extent, limit: int, least: int) -> Extent:
    """No picture of more tokens than fit, but of `least` at least."""
    area = extent.patches.factor**2
    fit = bisect_right(range(extent.pixels // area), limit, key=lambda tokens: extent.most(extent.pictures, tokens)) - 1
    least = min(least, extent.pixels // area)
    for tokens in range(max(fit, least), least - 1, -1):  # a long narrow picture may come out larger than asked for
        fewer = replace(extent, patches=extent.patches.limited(tokens * area, strict=False))
        if fewer.tokens <= limit:
            break
    return fewer if fewer.pixels < extent.pixels else extent


def _fewer_kept(extent: Extent, limit: int) -> Extent:
    """The largest share that fits, in hundredths, but `KEEP` at least."""
    now = _amount(extent, "keep")
    reducer: Reducer = extent.reducer or EVS()
    for hundredths in range(min(99, math.ceil(100 * now) - 1), round(100 * KEEP) - 1, -1):
        fewer = replace(extent, reducer=reducer.at(hundredths / 100))
        if fewer.tokens <= limit:
            return fewer
    return replace(extent, reducer=reducer.at(KEEP)) if now > KEEP else extent


def allot(asked: Sequence[int], limit: int) -> list[int]:
    """What each may have of `limit`: as much as it asks for, and of what is then too little all others the same.

    >>> allot([10, 300, 500], 210)
    [10, 100, 100]
    """
    shares = [0] * len(asked)
    order = sorted(range(len(asked)), key=lambda index: asked[index])
    for done, index in enumerate(order):
        shares[index] = min(asked[index], (limit - sum(shares)) // (len(asked) - done))
    return shares


def explain(budget: Budget, shares: Sequence[tuple[str, Share]]) -> Iterator[str]:
    """A warning if anything was lowered: from what to what, and why. `shares` come with the names of the videos."""
    reasons = {
        "context": "the model's context leaves room for",
        "option": "max_visual_tokens allows",
        "memory": "memory allows",
    }
    told = [
        f"{f'of {name} ' if len(shares) > 1 and name else ''}"
        + ", ".join(f"{each.what} from {_number(each.before)} to {_number(each.after)}" for each in share.lowered)
        for name, share in shares
        if share.lowered
    ]
    if told:
        yield (
            f"{budget.asked:,} visual tokens are more than the {budget.limit:,} that {reasons[budget.source]}; "
            f"lowered: {'; '.join(told)} (the order: {'; '.join(ORDER)})"
        )


def _number(value: float) -> str:
    return f"{value:g}" if value < 1 else f"{value:,.0f}"
