"""EVS: keep the tokens that are least like the one before them at the same place."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.compression.reducers.reducer import Reducer, _check_share, _likeness, _likeness_flops
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class EVS(Reducer):
    """Keep the tokens that are least like the one before them at the same place (EVS, arXiv 2510.14624).

    As in vLLM's code, which compares embeddings where the paper compares pixels: cosine similarity, one ranking for
    the whole video, the first temporal patch always whole. Deviations: equally similar tokens stay in their order;
    vLLM lets the text go on at the video's start plus its width, and has this for Qwen2.5-VL and later models only.
    """

    keep: float = 0.5  # share of the video's visual tokens that stay; those of the first temporal patch at least
    method: Literal["evs"] = field(default="evs", init=False)

    def __post_init__(self) -> None:
        _check_share("EVS", self.keep)

    @property
    def reduces(self) -> bool:
        """Whether anything is left out."""
        return self.keep < 1

    def choose(self, tokens: Tensor) -> Tensor:
        """The first temporal patch and the least similar tokens, as a mask `[t, m]`."""
        likeness = F.pad(_likeness(tokens), (0, 0, 1, 0), value=-torch.inf).flatten()
        count = max(tokens.shape[1], kept_count(len(likeness), self.keep))
        stays = torch.zeros_like(likeness, dtype=torch.bool)
        stays[likeness.sort(stable=True).indices[:count]] = True
        return stays.view(tokens.shape[:2])

    def most(self, frames: int, tokens: int) -> int:
        """At most how many stay of `tokens` in each of `frames` temporal patches."""
        return min(frames * tokens, max(tokens, kept_count(frames * tokens, self.keep)))

    def at(self, keep: float) -> Self:
        """The same with another share that stays."""
        return replace(self, keep=keep)

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        return _likeness_flops(frames, tokens, width)
