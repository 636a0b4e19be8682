"""Encodings that are used again: which of those in the cache belong to a question's videos."""

from dataclasses import replace
from typing import Any

from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.encoded import Encoded
from ipcv.limits.budget import Limit, Share
from ipcv.limits.extent import Extent
from ipcv.limits.measure import BudgetPlanner
from ipcv.media.clip import Clip
from ipcv.options import Options


class Reuse:
    """The encodings in `cache` that were made by one model under `options`, and within the limits of `planner`.

    An encoding whose frames or pixels were lowered is stored per limit. One that was not lowered is stored once, and
    serves every limit within which nothing of it has to be lowered.
    """

    def __init__(self, cache: EncodingCache, model: dict[str, Any], options: Options, planner: BudgetPlanner) -> None:
        self.cache, self.model, self.options, self.planner = cache, model, options, planner
        self._keys: dict[str, str] = {}  # by path, of the encoding that is not lowered
        self._lowered_keys: dict[str, str] = {}

    def load(self, video: str, limit: Limit, content: dict[str, Any] | None = None) -> Encoded | None:
        """The encoding of a file or URL within `limit`, with its share of that; None if there is none.

        `content` is that of the video (`fingerprint.content`), if it is known already.
        """
        return self.within(self.whole(video, content), video, limit)

    def whole(self, video: str, content: dict[str, Any] | None = None) -> Encoded | None:
        """The encoding of a file or URL that is not lowered; None if there is none."""
        key = fingerprint.of_encoding(content or fingerprint.content(video), self.model, self.options)
        self._keys[video] = key
        return self.cache.load(key, video)

    def within(self, whole: Encoded | None, video: str, limit: Limit) -> Encoded | None:
        """`whole`, which was found before, if it fits into `limit`, else the one that was lowered to it, if any."""
        self._lowered_keys[video] = fingerprint.digest([self._keys[video], limit.visual, limit.context])
        fits = whole is not None and self._stays_whole(whole, limit)
        found = whole if fits else self.cache.load(self._lowered_keys[video], video)
        return found and replace(found, share=share_of(self.planner, found, limit))

    def keep(self, encoded: Encoded) -> None:
        """Store the encoding of a video that was looked for; its content is taken to be the same still.

        Not one for which the frame batch had to be halved: that is not how the options would have it.
        """
        keys = self._lowered_keys if _is_lowered(encoded.share) else self._keys
        if encoded.video.path in keys and encoded.frame_batch == self.options.frame_batch:
            self.cache.store(keys[encoded.video.path], encoded)

    def _stays_whole(self, encoded: Encoded, limit: Limit) -> bool:
        """Whether the video would be encoded like this again, all of it."""
        facts, frames = encoded.video, encoded.grid[0] * self.planner.patches.temporal_patch_size
        whole = self.planner.extent(encoded.kind, encoded.times, frames, (facts.height, facts.width))
        try:
            _, share = self.planner.lower(whole, limit, encoded.times, facts.path)
        except ValueError:  # it cannot be lowered enough: whoever opens the video says so
            return False
        return not _is_lowered(share)


def share_of(planner: BudgetPlanner, video: Clip | Encoded, limit: Limit) -> Share:
    """The share of the limit for a video that is open or encoded: only its kept tokens can still be lowered.

    Raises `ValueError` where a limit that was asked for is too low for that.
    """
    whole, before = extent_of(planner, video), video.share if isinstance(video, Encoded) else None
    path = (video.video if isinstance(video, Encoded) else video.facts).path
    _, share = planner.lower(whole, limit, video.times, path, only_reduce=True)
    if before is None:
        return share
    lowered = (*(each for each in before.lowered if each.what != "keep"), *share.lowered)
    return replace(share, asked=before.asked, limit=limit.of(before.asked, share.text), lowered=lowered)


def extent_of(planner: BudgetPlanner, video: Clip | Encoded) -> Extent:
    """The frames and pixels of a video that is open or encoded already."""
    step = planner.patches.temporal_patch_size
    frames = video.grid[0] * step if isinstance(video, Encoded) else len(video.times)
    extent = planner.extent(video.kind, video.times, frames, video.size)
    text = extent.text
    if isinstance(video, Encoded) and video.share:
        text = video.share.text // extent.pictures  # as it was measured before anything was lowered
    return replace(extent, patches=planner.patches.sized(*video.size), text=text)


def _is_lowered(share: Share | None) -> bool:
    """Whether there are fewer frames or pixels than the settings alone would have."""
    return share is not None and any(each.what != "keep" for each in share.lowered)
