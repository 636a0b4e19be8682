"""A video measured against the budget of visual tokens, and opened with as much of it as that leaves.

Imports neither transformers nor what needs it: the processes that read videos measure them, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ipcv.architecture.preprocess import FrameSettings
from ipcv.compression.reducers.reducer import Reducer
from ipcv.limits.budget import Limit, Share
from ipcv.limits.extent import Extent, meet
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameSize, MediaKind
from ipcv.media.sources import ChosenFrames
from ipcv.text import shown


@dataclass(frozen=True)
class PictureText:
    """How many tokens of text a prompt has for each picture of a video, such as its time; `prompt.picture_text`."""

    by_digits: tuple[int, ...] = (0,)  # of that time, in seconds, or of the picture's number: from one digit on

    def most(self, kind: MediaKind, seconds: float, pictures: int) -> int:
        """For each of so many `pictures`, the last of them at `seconds`; an image has none."""
        digits = len(str(max(round(seconds), pictures)))
        return 0 if kind == "image" else self.by_digits[min(digits, len(self.by_digits)) - 1]


@dataclass(frozen=True, kw_only=True)
class BudgetPlanner:
    """How much of a video there is, and what of it is lowered where there is room for less."""

    patches: FrameSettings  # how frames are cut
    reducer: Reducer | None  # what leaves visual tokens out of the prompt
    may_reduce: bool  # whether it may be made to leave out more
    text: PictureText

    def found(self, found: ChosenFrames) -> Extent:
        """As much as the settings alone would have of a video or image that was found."""
        return self.extent(found.kind, found.times, len(found.times), (found.height, found.width))

    def extent(self, kind: MediaKind, times: Sequence[float], frames: int, size: FrameSize) -> Extent:
        """The same of so many `frames`, the last of them at the last of `times`, of this height and width."""
        text = self.text.most(kind, times[-1], frames // self.patches.temporal_patch_size)
        height, width = size
        return Extent(frames=frames, height=height, width=width, patches=self.patches, reducer=self.reducer, text=text)

    def read(self, found: ChosenFrames, limit: Limit) -> tuple[Clip, Share]:
        """What was found, opened with as much of it as there is room for. Raises as `meet` does."""
        extent, share = self.meet(self.found(found), limit, found.times, found.name)
        return found.read(extent.patches.resize, extent.frames), share

    def meet(
        self, whole: Extent, limit: Limit, times: Sequence[float], name: str, *, only_reduce: bool = False
    ) -> tuple[Extent, Share]:
        """`whole`, of frames at `times`, lowered where there is no room for all of it; `only_reduce` as in `meet`.

        Raises `ValueError` where a limit that was asked for is too low.
        """
        seconds = times[-1] - times[0]
        extent, lowered = meet(whole, limit, seconds, may_reduce=self.may_reduce, only_reduce=only_reduce)
        if extent.tokens > limit.visual and limit.source != "context":
            least = f"{shown(name) or 'a video'} has {extent.tokens} at least"
            raise ValueError(f"{limit.visual} visual tokens are too few: {least}")
        text = extent.pictures * extent.text
        return extent, Share(asked=whole.tokens, limit=limit.of(whole.tokens, text), text=text, lowered=lowered)
