"""What is done when memory runs out: the work starts again with less of what took too much."""

from dataclasses import dataclass, replace

from ipcv.budget import Origin
from ipcv.opening import Opened
from ipcv.preprocess import FrameSettings
from ipcv.run import Run

TRIES = 5  # starts with less before it is given up


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is room for."""

    patches: FrameSettings
    limit: int  # visual tokens in the prompt
    source: Origin  # of this limit
    frame_batch: int
    tries: int = 0  # starts with less so far

    def less(self, run: Run, opened: Opened) -> tuple["Room", str] | None:
        """Room for half of what `run` could not hold, and a warning that says so; `None`: it has to be given up.

        The encoder's frame batch is halved by itself (`FrameEncoder`): here half of the pixels are left of each frame,
        or, if everything was encoded, half of the visual tokens.
        """
        if self.tries == TRIES:
            return None
        fewer = replace(self, tries=self.tries + 1, frame_batch=run.frames.batch)
        if len(run.parts) == len(opened.inputs):
            half = run.work.visual // 2
            told = f"memory ran out with {run.work.visual:,} visual tokens: starting again with {half:,} at most"
            return (replace(fewer, limit=half, source="memory"), told) if half else None
        height, width = opened.inputs[len(run.parts)].size
        half = height * width // 2
        if half < max(self.patches.min_pixels, self.patches.factor**2):
            return None
        told = (
            f"memory ran out with {run.frames.batch} frames of {width} x {height} pixels: starting again with "
            f"{half:,} pixels a frame at most"
        )
        return replace(fewer, patches=self.patches.limited(half)), told
