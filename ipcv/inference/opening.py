"""The videos and images of one question: found, measured against the budget of visual tokens, then opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ipcv.encodings import fingerprint
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Reuse
from ipcv.encodings.share import extent_of, share_of
from ipcv.inference.retry import Room
from ipcv.limits.budget import Budget, Limit, Share, allot, explain
from ipcv.limits.extent import Extent
from ipcv.limits.measure import BudgetPlanner
from ipcv.media.clip import Clip
from ipcv.media.sources import ChosenFrames, FoundFile, Source, TimedFrames, choose_frames
from ipcv.media.video.probe import IndexedVideo
from ipcv.options import Options
from ipcv.readers.single import FileReader
from ipcv.text import shown

Input = Source | Encoded  # what a question can be about


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedInputs:
    """Clips to encode, and videos that are encoded already, in the order of the prompt."""

    inputs: tuple[Clip | Encoded, ...]
    shares: tuple[Share, ...]  # of the budget
    budget: Budget

    def lowered(self) -> Iterator[str]:
        """A warning if the budget made anything be lowered."""
        names = [_name(each) for each in self.inputs]
        yield from explain(self.budget, list(zip(names, self.shares, strict=True)))

    def reading(self) -> Iterator[str]:
        """Warnings of reading, as far as they are known by now; with names if there are several videos."""
        for number, each in enumerate(self.inputs, 1):
            start = f"{_name(each) or f'video {number}'}: " if len(self.inputs) > 1 else ""
            yield from (f"{start}{warning}" for warning in each.warnings)


class Opener:
    """Opens the videos of one question under `options`. Each file is found once, however many attempts there are.

    Files are read by the process of `reader`; an open clip, frames in memory and encodings need none.
    """

    def __init__(
        self, options: Options, planner: BudgetPlanner, reader: FileReader, reuse: Reuse | None = None
    ) -> None:
        self.options, self.planner, self.reader, self.reuse = options, planner, reader, reuse
        self._files: dict[str, FoundFile] = {}  # by path

    def open(self, asked: Sequence[Input], room: Room) -> OpenedInputs:
        """Open all of `asked` in `room`; more than that if the limit is the context's and no less is possible.

        Raises `VideoError`, and `ValueError` where a limit that was asked for is too low.
        """
        planner = replace(self.planner, patches=room.patches)
        reuse = None if room.tries else self.reuse  # what memory ran out over is not what the options would have
        known = [self._known(each, planner, reuse) for each in asked]
        parts = _divided(room.limit, [_wanted(each, planner) for each in known])
        opened = [
            self._opened(each, found, part, planner, reuse)
            for each, found, part in zip(asked, known, parts, strict=True)
        ]
        shares = tuple(share for _, share in opened)
        return OpenedInputs(
            inputs=tuple(each for each, _ in opened), shares=shares, budget=Budget.of(room.limit, shares)
        )

    def _known(self, video: Input, planner: BudgetPlanner, reuse: Reuse | None) -> ChosenFrames | Clip | Encoded:
        """The encoding of a whole video where the cache has it; else its frames, or what is open or encoded already."""
        if isinstance(video, Encoded | Clip):
            return video
        whole = None
        if reuse and (path := _path(video)):
            whole = reuse.whole(path, fingerprint.content(path, self.reader.access))
        return whole or self._chosen(video, planner)

    def _chosen(self, video: str | Path | FoundFile | TimedFrames, planner: BudgetPlanner) -> ChosenFrames:
        if isinstance(video, str | Path):
            path = str(video)
            video = self._files[path] = self._files.get(path) or self.reader.find(path)
        step = planner.patches.temporal_patch_size
        chosen = choose_frames(video, self.options.sampling, self.options.frame_batch, step)
        if not isinstance(video, IndexedVideo):
            return chosen
        return replace(chosen, read=lambda resize, most: self.reader.through(chosen.read(resize, most)))

    def _opened(
        self,
        video: Input,
        known: ChosenFrames | Clip | Encoded,
        limit: Limit,
        planner: BudgetPlanner,
        reuse: Reuse | None,
    ) -> tuple[Clip | Encoded, Share]:
        """Open one video within its limit; also its share of the budget."""
        if isinstance(video, Encoded | Clip):
            return video, share_of(planner, video, limit)
        if reuse and (path := _path(video)):
            whole = known if isinstance(known, Encoded) else None
            if found := reuse.within(whole, path, limit):
                return found, share_of(planner, found, limit)
        return planner.read(known if isinstance(known, ChosenFrames) else self._chosen(video, planner), limit)


def _path(video: Source) -> str:
    """The path of a file, "" for frames that are in memory."""
    if isinstance(video, str | Path):
        return str(video)
    return video.facts.path if isinstance(video, FoundFile) else ""


def _wanted(known: ChosenFrames | Clip | Encoded, planner: BudgetPlanner) -> tuple[int, Extent]:
    """The visual tokens that the options alone would put into the prompt, and how much there is of the video."""
    if isinstance(known, ChosenFrames):
        extent = planner.whole(known)
        return extent.tokens, extent
    extent = extent_of(planner, known)
    return known.share.asked if isinstance(known, Encoded) and known.share else extent.tokens, extent


def _divided(limit: Limit, wanted: Sequence[tuple[int, Extent]]) -> list[Limit]:
    """The limit of each of several videos, by the visual tokens that each wants, and by the text beside them."""
    if len(wanted) == 1:
        return [limit]
    visual = allot([tokens for tokens, _ in wanted], limit.visual)
    if limit.context is None:
        return [replace(limit, visual=most) for most in visual]
    whole = allot([tokens + extent.pictures * extent.text for tokens, extent in wanted], limit.context)
    return [replace(limit, visual=most, context=room) for most, room in zip(visual, whole, strict=True)]


def _name(video: Clip | Encoded) -> str:
    return shown((video.video if isinstance(video, Encoded) else video.facts).path)
