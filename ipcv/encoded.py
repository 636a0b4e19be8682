"""A video after the vision encoder: all that is needed to ask about it, and to say how it came about."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ipcv.answer import StageName
from ipcv.budget import Share
from ipcv.probe import Kind, VideoFacts


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """The visual embeddings of one video under one set of options; `Model.encode` makes them."""

    visual: Tensor  # [n, d] embeddings for the language model
    grid: tuple[int, int, int]  # temporal patches, rows, columns
    video: VideoFacts
    times: tuple[float, ...]  # seconds of source time, one per frame
    size: tuple[int, int]  # height and width of the frames, after resizing
    passes: tuple[tuple[int, ...], ...]  # per encoder pass, patches of each of its frames
    kept: tuple[tuple[int, ...], ...]  # the same once only kept tokens are left; empty if nothing was pruned
    warnings: tuple[str, ...]  # about reading
    seconds: Mapping[StageName, float]  # measured; read, preprocess and encode
    kind: Kind = "video"
    share: Share | None = None  # of the budget of visual tokens; its frames and pixels are lowered already
