"""Encodings that are used again: which of those in the cache belong to a question's videos."""

from dataclasses import replace
from typing import Any

from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.share import share_of
from ipcv.limits.budget import Limit, Share
from ipcv.limits.measure import BudgetPlanner
from ipcv.options import Options


class Reuse:
    """The encodings in `cache` that were made by one model under `options`, and within the limits of `planner`.

    An encoding whose frames or pixels were lowered is stored per limit. One that was not lowered is stored once, and
    serves every limit within which nothing of it has to be lowered. `width` is that of the model's visual tokens.
    """

    def __init__(
        self,
        cache: EncodingCache,
        model: dict[str, Any],
        options: Options,
        planner: BudgetPlanner,
        width: int | None = None,
    ) -> None:
        self.cache, self.model, self.options, self.planner, self.width = cache, model, options, planner, width
        self._keys: dict[str, str] = {}  # by path, of the encoding that is not lowered
        self._lowered_keys: dict[str, str] = {}

    def load(self, video: str, limit: Limit, content: dict[str, Any] | None = None) -> Encoded | None:
        """The encoding of a file or URL within `limit`, with its share of that; None if there is none.

        `content` is that of the video (`fingerprint.content`), if it is known already.
        """
        return self.within(self.whole(video, content), video, limit)

    def whole(self, video: str, content: dict[str, Any] | None = None) -> Encoded | None:
        """The encoding of a file or URL that is not lowered; None if there is none."""
        found = content or fingerprint.content(video)
        if not found["hash"]:
            return None  # nothing would tell that the video is another one by now
        key = fingerprint.of_encoding(found, self.model, self.options)
        self._keys[video] = key
        return self.cache.load(key, video, self._check)

    def within(self, whole: Encoded | None, video: str, limit: Limit) -> Encoded | None:
        """`whole`, which was found before, if it fits into `limit`, else the one that was lowered to it, if any."""
        if video not in self._keys:
            return None
        self._lowered_keys[video] = fingerprint.digest([self._keys[video], limit.visual, limit.context])
        fits = whole is not None and self._stays_whole(whole, limit)
        found = whole if fits else self.cache.load(self._lowered_keys[video], video, self._check)
        return found and replace(found, share=share_of(self.planner, found, limit))

    def keep(self, encoded: Encoded) -> None:
        """Store the encoding of a video that was looked for; its content is taken to be the same still.

        Not one for which the frame batch had to be halved: that is not how the options would have it.
        """
        keys = self._lowered_keys if _is_lowered(encoded.share) else self._keys
        if encoded.video.path in keys and encoded.frame_batch == self.options.frame_batch:
            self.cache.store(keys[encoded.video.path], encoded)

    def _check(self, encoded: Encoded) -> None:
        """Raise `ValueError` for an encoding over which the model would fail again and again."""
        tokens, pictures = encoded.visual.tokens, encoded.grid[0]
        if tokens.shape != (pictures * self.planner.patches.tokens(*encoded.size), self.width):
            raise ValueError("its size is not that of the model's")
        if len(encoded.times) % pictures:
            raise ValueError("its times do not fit its frames")

    def _stays_whole(self, encoded: Encoded, limit: Limit) -> bool:
        """Whether the video would be encoded like this again, all of it."""
        facts, frames = encoded.video, encoded.grid[0] * self.planner.patches.temporal_patch_size
        whole = self.planner.extent(encoded.kind, encoded.times, frames, (facts.height, facts.width))
        try:
            _, share = self.planner.lower(whole, limit, encoded.times, facts.path)
        except ValueError:  # it cannot be lowered enough: whoever opens the video says so
            return False
        return not _is_lowered(share)


def _is_lowered(share: Share | None) -> bool:
    """Whether there are fewer frames or pixels than the settings alone would have."""
    return share is not None and any(each.what != "keep" for each in share.lowered)
