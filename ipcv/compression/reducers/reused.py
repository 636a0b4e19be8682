"""Reused: drop the tokens that the encoder did not compute, because nothing had changed at their places."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ipcv.compression.reducers.reducer import Reduced, Reducer


@dataclass(frozen=True, kw_only=True)
class Reused(Reducer):
    """Drop the tokens that the encoder reused: each is that of the temporal patch before, at its place.

    So nothing is lost but how long something stayed as it was, and choosing costs nothing. The first temporal patch
    stays whole. How many tokens stay depends on the video alone. The compressor must reuse patches, as `IPCV` does.
    """

    name: ClassVar[str] = "reused"
    arxiv: ClassVar[str] = ""
    departures: ClassVar[str] = ""
    needs_reuse: ClassVar[bool] = True
    has_share: ClassVar[bool] = False
    keep = None

    method: Literal["reused"] = field(default="reused", init=False)

    def __call__(self, tokens: Tensor, reused: Tensor | None = None) -> Reduced:
        """Leave the tokens that are not `reused` `[t, m]`; None: all of them."""
        stays = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if reused is not None:
            stays[1:] = ~reused[1:]
        return Reduced.of(tokens, stays)

    def most(self, frames: int, tokens: int) -> int:
        """All tokens: before it is encoded, nobody knows how still a video is."""
        return frames * tokens

    def flops(self, frames: int, tokens: int, width: int) -> int:  # noqa: ARG002 - it compares nothing
        """None: the encoder has told already."""
        return 0
