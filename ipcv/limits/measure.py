"""A video is measured in visual tokens, lowered to its limit, and opened.

Imports neither transformers nor what needs it: the processes that read videos measure them, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ipcv.architecture.preprocess import FrameSettings
from ipcv.compression.reducers.reducer import Reducer
from ipcv.limits.budget import Limit, Share
from ipcv.limits.extent import Extent, lower
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameSize, MediaKind
from ipcv.media.sources import ChosenFrames
from ipcv.text import shown


@dataclass(frozen=True)
class PictureText:
    """How many tokens of text a prompt has for each picture of a video, such as its time.

    `ipcv.limits.context.picture_text` counts them.
    """

    by_digits: tuple[int, ...] = (0,)  # where the time in seconds, or the picture's number, has one digit, two, …

    def most(self, kind: MediaKind, seconds: float, pictures: int) -> int:
        """Tokens for each of so many `pictures`, at most; the last picture is at `seconds`. An image has none."""
        digits = len(str(max(round(seconds), pictures)))
        return 0 if kind == "image" else self.by_digits[min(digits, len(self.by_digits)) - 1]


@dataclass(frozen=True, kw_only=True)
class BudgetPlanner:
    """Measures videos in visual tokens, and lowers them to a limit. Reader processes get a copy of it."""

    patches: FrameSettings  # how frames are cut into patches
    reducer: Reducer | None  # leaves visual tokens out of the prompt
    may_reduce: bool  # whether the reducer may be made to leave out more
    text: PictureText

    def whole(self, chosen: ChosenFrames) -> Extent:
        """The extent of a video with all of its chosen frames, nothing lowered."""
        return self.extent(chosen.kind, chosen.times, len(chosen.times), (chosen.height, chosen.width))

    def extent(self, kind: MediaKind, times: Sequence[float], frames: int, size: FrameSize) -> Extent:
        """The extent of so many `frames` of this height and width, the last of them at the last of `times`."""
        text = self.text.most(kind, times[-1], frames // self.patches.temporal_patch_size)
        height, width = size
        return Extent(frames=frames, height=height, width=width, patches=self.patches, reducer=self.reducer, text=text)

    def read(self, chosen: ChosenFrames, limit: Limit) -> tuple[Clip, Share]:
        """Open the chosen frames, as many and as large as the limit allows. Errors as of `lower`."""
        extent, share = self.lower(self.whole(chosen), limit, chosen.times, chosen.name)
        return chosen.read(extent.patches.resize, extent.frames), share

    def lower(
        self, whole: Extent, limit: Limit, times: Sequence[float], name: str, *, only_reduce: bool = False
    ) -> tuple[Extent, Share]:
        """Lower `whole`, whose frames are at `times`, where it is more than `limit`; arguments as of `extent.lower`.

        Raises `ValueError` where a limit that was asked for is too low.
        """
        seconds = times[-1] - times[0]
        extent, lowered = lower(whole, limit, seconds, may_reduce=self.may_reduce, only_reduce=only_reduce)
        if extent.tokens > limit.visual and limit.source != "context":
            least = f"{shown(name) or 'a video'} has {extent.tokens} at least"
            raise ValueError(f"{limit.visual} visual tokens are too few: {least}")
        text = extent.pictures * extent.text
        return extent, Share(asked=whole.tokens, limit=limit.of(whole.tokens, text), text=text, lowered=lowered)
