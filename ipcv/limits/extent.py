"""Frames and pixels of a video, and how they are lowered, in a fixed order, until its visual tokens meet a limit."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from ipcv.architecture.preprocess import FrameSettings
from ipcv.compression.reducers.reducer import Reducer
from ipcv.limits.budget import KEEP, PICTURE, Limit, Lowered, What, reducer_or_default


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The frames, pixels and reducer with which one video or image is looked at, which give its visual tokens."""

    frames: int
    height: int  # as displayed
    width: int
    patches: FrameSettings
    reducer: Reducer | None
    text: int = 0  # tokens, at most, of the text that the prompt has for each picture

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
        """Visual tokens in the prompt, at most."""
        return self.most(self.pictures, self.of_picture)

    def most(self, pictures: int, tokens: int) -> int:
        """Visual tokens in the prompt, at most, of so many `pictures` of so many `tokens` each."""
        return self.reducer.most(pictures, tokens) if self.reducer else pictures * tokens

    def fits(self, limit: Limit, pictures: int | None = None, tokens: int | None = None) -> bool:
        """Whether the limit is met, with other numbers of pictures, or of tokens in each, if these are given."""
        pictures = self.pictures if pictures is None else pictures
        tokens = self.of_picture if tokens is None else tokens
        return self.most(pictures, tokens) <= limit.left(pictures * self.text)


def lower(
    extent: Extent, limit: Limit, seconds: float, *, may_reduce: bool, only_reduce: bool = False
) -> tuple[Extent, tuple[Lowered, ...]]:
    """Lower `extent` in `ORDER` until it meets `limit`, or nothing more can be lowered.

    `seconds` pass from the first frame to the last. `may_reduce`: whether a reducer may leave tokens out of the prompt;
    `only_reduce`: whether that is all that may be done, because frames are open or encoded already.
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
    for what, step_down in steps:
        if extent.fits(limit) or (only_reduce and what != "keep"):
            continue
        before, extent = extent, step_down(extent)
        if extent != before:
            amounts = (_amount(each, what) for each in (before, extent))
            lowered.append(Lowered(what=what, before=next(amounts), after=next(amounts), visual_tokens=extent.tokens))
    return extent, tuple(lowered)


def _amount(extent: Extent, what: What) -> float:
    if what == "keep":
        keep = extent.reducer.keep if extent.reducer else None  # a reducer may go by something else
        return 1.0 if keep is None else keep
    return extent.frames if what == "frames" else extent.pixels


def _fewer_frames(extent: Extent, limit: Limit, least: int) -> Extent:
    step, tokens = extent.patches.temporal_patch_size, extent.of_picture
    fit = _most(extent.pictures, lambda pictures: extent.fits(limit, pictures, tokens))
    return replace(extent, frames=min(extent.frames, max(fit * step, least)))


def _fewer_pixels(extent: Extent, limit: Limit, least: int) -> Extent:
    """Fewer pixels, so that each picture has no more tokens than fit, but `least` at least."""
    area = extent.patches.factor**2
    fit = _most(extent.pixels // area, lambda tokens: extent.fits(limit, extent.pictures, tokens))
    least = min(least, extent.pixels // area)
    for tokens in range(max(fit, least), least - 1, -1):  # a long narrow picture may come out larger than asked for
        fewer = replace(extent, patches=extent.patches.limited(tokens * area, strict=False))
        if fewer.fits(limit):
            break
    return fewer if fewer.pixels < extent.pixels else extent


def _fewer_kept(extent: Extent, limit: Limit) -> Extent:
    """The largest share that fits, in hundredths, but `KEEP` at least."""
    now = _amount(extent, "keep")
    reducer = reducer_or_default(extent.reducer)
    if not reducer.has_share:
        return extent
    for hundredths in range(min(99, math.ceil(100 * now) - 1), round(100 * KEEP) - 1, -1):
        fewer = replace(extent, reducer=reducer.at(hundredths / 100))
        if fewer.fits(limit):
            return fewer
    return replace(extent, reducer=reducer.at(KEEP)) if now > KEEP else extent


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The largest number below `count` for which `fits` holds; it holds for all smaller ones. 0 if for none."""
    return max(0, bisect_left(range(count), True, key=lambda number: not fits(number)) - 1)
