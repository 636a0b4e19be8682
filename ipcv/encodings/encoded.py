"""A video after the vision encoder, with all that a question about it needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ipcv.answer import StageName
from ipcv.architecture.visual import Visual, VisualSpan
from ipcv.limits.budget import Share
from ipcv.media.frames import MediaKind, VideoFacts


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """The visual embeddings of one video under one set of options; `Model.encode` makes them."""

    visual: Visual  # for the language model
    grid: tuple[int, int, int]  # temporal patches, rows, columns
    video: VideoFacts
    times: tuple[float, ...]  # seconds of source time, one per frame
    size: tuple[int, int]  # height and width of the frames, after resizing
    passes: tuple[tuple[int, ...], ...]  # per encoder pass, tokens of each of its frames
    kept: tuple[tuple[int, ...], ...]  # tokens left of each frame, or window; empty if nothing was pruned
    computed: tuple[tuple[int, ...], ...]  # tokens of each frame, or window, that were not reused; empty: none can be
    reused_tokens: Tensor  # [n] on the CPU, whether each visual token is that of the temporal patch before, reused
    warnings: tuple[str, ...]  # about reading
    expected: tuple[float, ...] = ()  # per encoder pass, estimated fidelity of its output; empty if none was asked for
    reused: bool = False  # from the cache: nothing was read or encoded
    seconds: Mapping[StageName, float]  # measured; read, preprocess and encode
    frame_batch: int  # frames encoded at a time; fewer than asked for where memory ran out
    kind: MediaKind = "video"
    share: Share | None = None  # of the budget of visual tokens; its frames and pixels are lowered already

    @property
    def span(self) -> VisualSpan:
        """The video's place in a prompt."""
        return VisualSpan(
            kind=self.kind,
            grid=self.grid,
            times=self.times,
            tokens=len(self.visual),
            seconds=self.video.duration,
        )
