"""The videos and images of one question: found, measured against the budget of visual tokens, then opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipcv import identity
from ipcv.answer import ModelFacts, Options
from ipcv.budget import Budget, Extent, Lowered, Origin, Share, allot, explain, meet
from ipcv.cache import EncodingCache
from ipcv.container import shown
from ipcv.encoded import Encoded
from ipcv.preprocess import FrameSettings
from ipcv.sources import Found, Source, find
from ipcv.video import Clip

Asked = Source | Encoded  # what a question can be about


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
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


class Cached:
    """A cache of encodings for one model under `options`."""

    def __init__(self, cache: EncodingCache, model: ModelFacts, options: Options) -> None:
        self.cache, self.model, self.options = cache, model, options
        self.keys: dict[str, str] = {}  # by path, of the files that were looked for

    def load(self, video: Source) -> Encoded | None:
        """The encoding of a file, if it is there."""
        if not isinstance(video, str | Path):
            return None
        path = str(video)
        key = identity.of_encoding(identity.content(path), identity.model(self.model), self.options)
        self.keys[path] = key
        return self.cache.load(key, path)

    def keep(self, encoded: Encoded) -> None:
        """Store the encoding of a file that was looked for; its content is taken to be the same still."""
        if key := self.keys.get(encoded.video.path):
            self.cache.store(key, encoded)


class Opener:
    """How the videos of one question are opened under `options`; encodings that are in `cache` are taken from there."""

    def __init__(self, options: Options, patches: FrameSettings, cache: Cached | None = None) -> None:
        self.options, self.patches, self.cache = options, patches, cache
        pruned = options.compressor or options.reducer or options.pruner
        self.may_reduce = bool(pruned) and not options.baseline  # the baseline is to see the same tokens

    def open(self, asked: Sequence[Asked], limit: int, source: Origin) -> Opened:
        """All of `asked`, with `limit` visual tokens at most; more if `source` is the context and it takes more.

        Raises `VideoError`, and `ValueError` where a limit that was asked for is too low.
        """
        known = [each if isinstance(each, Encoded | Clip) else self.cached(each) or self.find(each) for each in asked]
        wanted = [self.wanted(each) for each in known]
        inputs: list[Clip | Encoded] = []
        shares: list[Share] = []
        for video, found, count, most in zip(asked, known, wanted, allot(wanted, limit), strict=True):
            if isinstance(found, Encoded) and not isinstance(video, Encoded) and not _fits(found, most):
                found = self.find(video)  # it is in the cache as another limit had it
            each, lowered, left = self.lowered(found, most)
            if left > most and source != "context":
                raise ValueError(
                    f"{limit} visual tokens are too few: {_name(each) or 'a video'} has {left} at least, and "
                    f"{most} is what it may have"
                )
            inputs.append(each)
            shares.append(Share(asked=count, limit=most, lowered=lowered))
        return Opened(
            inputs=tuple(inputs),
            shares=tuple(shares),
            budget=Budget(limit=limit, source=source, asked=sum(wanted)),
        )

    def cached(self, video: Source) -> Encoded | None:
        """The encoding of a file, if it is in the cache."""
        return self.cache.load(video) if self.cache else None

    def find(self, video: Any) -> Found:
        """What there is to see in a file or in frames in memory."""
        return find(video, self.options.sampling, self.options.frame_batch, self.patches.temporal_patch_size)

    def wanted(self, found: Found | Clip | Encoded) -> int:
        """The visual tokens that the settings alone would put into the prompt."""
        if isinstance(found, Encoded) and found.share:
            return found.share.asked
        return self.extent(found).tokens

    def extent(self, found: Found | Clip | Encoded) -> Extent:
        """How much the settings alone would have of what was found, or is encoded."""
        patches, reducer = self.patches, self.options.reducer
        if isinstance(found, Found):
            return Extent(
                frames=len(found.times), height=found.height, width=found.width, patches=patches, reducer=reducer
            )
        height, width = found.size
        frames = len(found.times) if isinstance(found, Clip) else found.grid[0] * patches.temporal_patch_size
        same = patches.sized(height, width)  # they have this size already
        return Extent(frames=frames, height=height, width=width, patches=same, reducer=reducer)

    def lowered(self, found: Found | Clip | Encoded, limit: int) -> tuple[Clip | Encoded, tuple[Lowered, ...], int]:
        """What was found, opened with `limit` visual tokens if possible; what was lowered; and how many there are."""
        seconds = found.times[-1] - found.times[0]
        is_open = not isinstance(found, Found)
        extent, lowered = meet(self.extent(found), limit, seconds, may_reduce=self.may_reduce, only_reduce=is_open)
        if isinstance(found, Found):
            return found.read(extent.patches, extent.frames), lowered, extent.tokens
        before = found.share.lowered if isinstance(found, Encoded) and found.share else ()
        return found, (*(each for each in before if each.what != "keep"), *lowered), extent.tokens


def _fits(encoded: Encoded, limit: int) -> bool:
    """Whether a video would be encoded like this again under a `limit`."""
    share = encoded.share
    return share is not None and (share.limit == limit or share.asked <= min(share.limit, limit))


def _name(video: Clip | Encoded) -> str:
    return shown((video.video if isinstance(video, Encoded) else video.facts).path)
