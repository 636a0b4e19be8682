"""What is done when memory runs out: the work starts again with less of what took too much."""

from dataclasses import dataclass, replace

from ipcv.architecture.preprocess import FrameSettings
from ipcv.limits.budget import Limit
from ipcv.media.frames import FrameSize

TRIES = 5  # starts with less before it is given up


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is room for. What is left of it comes with a warning that says so; `None`: it has to be given up.

    The encoder's frame batch is halved by itself (`FrameEncoder`).
    """

    patches: FrameSettings
    limit: Limit
    frame_batch: int
    tries: int = 0  # starts with less so far

    def fewer_tokens(self, visual: int) -> tuple["Room", str] | None:
        """Room for half of the `visual` tokens that the language model could not hold."""
        half = visual // 2
        if not half or self.tries == TRIES:
            return None
        limit = replace(self.limit, visual=half, source="memory")
        told = f"memory ran out with {visual:,} visual tokens: starting again with {half:,} at most"
        return replace(self, limit=limit, tries=self.tries + 1), told

    def fewer_pixels(self, size: FrameSize) -> tuple["Room", str] | None:
        """Room for half of the pixels of each of the frames of this height and width that could not be encoded."""
        height, width = size
        half = height * width // 2
        if half < max(self.patches.min_pixels, self.patches.factor**2) or self.tries == TRIES:
            return None
        told = (
            f"memory ran out with {self.frame_batch} frames of {width} x {height} pixels: starting again with "
            f"{half:,} pixels a frame at most"
        )
        return replace(self, patches=self.patches.limited(half), tries=self.tries + 1), told
