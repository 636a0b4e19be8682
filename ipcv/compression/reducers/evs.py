"""EVS: keep the tokens that are least like the one before them at the same place."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.compression.reducers.reducer import Dropper
from ipcv.compression.reducers.similarity import likeness, likeness_flops
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class EVS(Dropper):
    """Keep the tokens that are least like the one before them at the same place (EVS, arXiv 2510.14624).

    As in vLLM's code, which compares embeddings where the paper compares pixels: cosine similarity, one ranking for
    the whole video, the first temporal patch always whole. Deviations: equally similar tokens stay in their order;
    vLLM lets the text go on at the video's start plus its width, and has this for Qwen2.5-VL and later models only.
    """

    name: ClassVar[str] = "evs"
    arxiv: ClassVar[str] = "2510.14624"
    departures: ClassVar[str] = (
        "compares embeddings, as vLLM's code does, not pixels; equally similar tokens stay in their order"
    )

    keep: float = 0.5  # share of the video's visual tokens that stay; those of the first temporal patch at least
    method: Literal["evs"] = field(default="evs", init=False)

    def __post_init__(self) -> None:
        self._check_share(self.keep)

    def choose(self, tokens: Tensor) -> Tensor:
        """The first temporal patch and the least similar tokens, as a mask `[t, m]`."""
        alike = F.pad(likeness(tokens), (0, 0, 1, 0), value=-torch.inf).flatten()
        count = max(tokens.shape[1], kept_count(len(alike), self.keep))
        stays = torch.zeros_like(alike, dtype=torch.bool)
        stays[alike.sort(stable=True).indices[:count]] = True
        return stays.view(tokens.shape[:2])

    def most(self, frames: int, tokens: int) -> int:
        """The largest number of tokens that may be left of `frames` temporal patches of so many `tokens` each."""
        return min(frames * tokens, max(tokens, kept_count(frames * tokens, self.keep)))

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        return likeness_flops(frames, tokens, width)

    def warnings(self, count: int, kept: int) -> tuple[str, ...]:
        """A warning where the first temporal patch alone is more than `keep`."""
        if kept <= kept_count(count, self.keep):
            return ()
        return (
            f"EVS keeps {kept} of {count} visual tokens, more than keep={self.keep}: it leaves the first frames whole",
        )
