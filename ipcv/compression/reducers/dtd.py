"""DTD: drop the tokens that are like the one before them at the same place."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from ipcv.compression.reducers.reducer import Dropper
from ipcv.compression.reducers.similarity import likeness, likeness_flops, ranks
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class DTD(Dropper):
    """Drop the tokens that are like the one before them at the same place (DTD of TimeChat-Online, arXiv 2504.17343).

    The variant of its code that compares features: cosine similarity to the same place in the temporal patch before,
    whether that token stays or not; the first temporal patch stays whole. Dropped is what is more alike than
    `threshold`, or, with `keep`, the most similar ones of each temporal patch. Deviations: how many stay with `keep`
    is rounded down, not how many go; equally similar tokens stay in their order.
    """

    name: ClassVar[str] = "dtd"
    arxiv: ClassVar[str] = "2504.17343"
    departures: ClassVar[str] = (
        "compares features, not pixels; with keep, how many stay is rounded down, not how many go; equally similar "
        "tokens stay in their order"
    )

    threshold: float = 0.5  # cosine similarity above which a token is dropped; not read if `keep` is given
    keep: float | None = None  # share of each temporal patch but the first that stays; None: by `threshold`
    method: Literal["dtd"] = field(default="dtd", init=False)

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"DTD threshold={self.threshold} must be from -1 to 1")
        if self.keep is not None:
            self._check_share(self.keep)

    def choose(self, tokens: Tensor) -> Tensor:
        """The first temporal patch and the tokens that changed, as a mask `[t, m]`."""
        alike = likeness(tokens)
        is_new = alike <= self.threshold
        stays = is_new if self.keep is None else ranks(alike) < kept_count(tokens.shape[1], self.keep)
        return F.pad(stays, (0, 0, 1, 0), value=True)

    def most(self, frames: int, tokens: int) -> int:
        """The largest number of tokens that may be left of `frames` temporal patches of so many `tokens` each."""
        later = tokens if self.keep is None else kept_count(tokens, self.keep)
        return tokens + (frames - 1) * later

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        return likeness_flops(frames, tokens, width)
