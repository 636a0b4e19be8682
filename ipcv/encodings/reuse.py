"""Which encodings in the cache are those of a question's videos, and under which names they are kept."""

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


class Cached:
    """A cache of encodings for one model under `options`, by which `measure` measures as well.

    An encoding whose frames or pixels were lowered is kept under a name that the limit is part of. One that was not is
    kept under a name without it: it is that of every limit under which none of these has to be lowered.
    """

    def __init__(self, cache: EncodingCache, model: dict[str, Any], options: Options, measure: BudgetPlanner) -> None:
        self.cache, self.model, self.options, self.measure = cache, model, options, measure
        self._looked_for: dict[str, tuple[str, str]] = {}  # by path: the name as a whole, and if lowered

    def load(self, video: str, limit: Limit, content: dict[str, Any] | None = None) -> Encoded | None:
        """The encoding of a file or URL, if it is there, with its share of `limit`.

        `content` is that of the video (`identity.content`), if it is known already.
        """
        whole = fingerprint.of_encoding(content or fingerprint.content(video), self.model, self.options)
        lowered = fingerprint.digest([whole, limit.visual, limit.context])
        self._looked_for[video] = whole, lowered
        found = self.cache.load(lowered, video)
        if not found:
            found = self.cache.load(whole, video)
            if not found or not self._stays_whole(found, limit):
                return None
        return replace(found, share=share_of(self.measure, found, limit))

    def keep(self, encoded: Encoded) -> None:
        """Store the encoding of what was last looked for at its path; its content is taken to be the same still."""
        if names := self._looked_for.get(encoded.video.path):
            self.cache.store(names[_is_lowered(encoded.share)], encoded)

    def _stays_whole(self, encoded: Encoded, limit: Limit) -> bool:
        """Whether the video would be encoded like this again, all of it."""
        facts, frames = encoded.video, encoded.grid[0] * self.measure.patches.temporal_patch_size
        whole = self.measure.extent(encoded.kind, encoded.times, frames, (facts.height, facts.width))
        try:
            _, share = self.measure.meet(whole, limit, encoded.times, facts.path)
        except ValueError:  # it cannot be lowered enough: whoever opens the video says so
            return False
        return not _is_lowered(share)


def share_of(measure: BudgetPlanner, video: Clip | Encoded, limit: Limit) -> Share:
    """The share of what is open or encoded already: all that can still be lowered is what stays of its tokens.

    Raises `ValueError` where a limit that was asked for is too low for that.
    """
    whole, before = extent_of(measure, video), video.share if isinstance(video, Encoded) else None
    path = (video.video if isinstance(video, Encoded) else video.facts).path
    _, share = measure.meet(whole, limit, video.times, path, only_reduce=True)
    if before is None:
        return share
    lowered = (*(each for each in before.lowered if each.what != "keep"), *share.lowered)
    return replace(share, asked=before.asked, limit=limit.of(before.asked, share.text), lowered=lowered)


def extent_of(measure: BudgetPlanner, video: Clip | Encoded) -> Extent:
    """How much there is of what is open or encoded already."""
    step = measure.patches.temporal_patch_size
    frames = video.grid[0] * step if isinstance(video, Encoded) else len(video.times)
    extent = measure.extent(video.kind, video.times, frames, video.size)
    text = extent.text
    if isinstance(video, Encoded) and video.share:
        text = video.share.text // extent.pictures  # as it was measured before anything was lowered
    return replace(extent, patches=measure.patches.sized(*video.size), text=text)


def _is_lowered(share: Share | None) -> bool:
    """Whether there are fewer frames or pixels than the settings alone would have."""
    return share is not None and any(each.what != "keep" for each in share.lowered)
