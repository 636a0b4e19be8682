"""The videos and images of a prompt, and the visual tokens that the encoder makes of them."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.grids import Grid
from ipcv.media.frames import MediaKind

Moment = Literal["middle", "start"]  # of a temporal patch


@dataclass(frozen=True, kw_only=True)
class VisualSpan:
    """A video or an image in a prompt: its grid of patches and the times of its frames."""

    kind: MediaKind
    grid: Grid  # temporal patches, rows and columns of patches
    times: tuple[float, ...]  # of the frames, in seconds
    tokens: int  # visual tokens in all
    seconds: float | None = None  # length of the whole video; None: up to the last frame

    def moments(self, which: Moment) -> list[float]:
        """The time of each temporal patch: that of its first frame, or halfway from there to its last."""
        step = len(self.times) // self.grid[0]
        starts, ends = self.times[::step], self.times[step - 1 :: step]
        return [start if which == "start" else (start + end) / 2 for start, end in zip(starts, ends, strict=True)]


@dataclass(frozen=True, eq=False)
class Visual:
    """Visual tokens for the language model, and the features that DeepStack adds to them."""

    tokens: Tensor  # [n, d] embeddings
    deepstack: Tensor  # [t, n, d] features to add to them behind each of the first t decoder layers; t may be 0

    @classmethod
    def cat(cls, parts: "list[Visual]") -> "Visual":
        """The tokens of all `parts`, one after the other."""
        return cls(torch.cat([part.tokens for part in parts]), torch.cat([part.deepstack for part in parts], dim=1))

    def __getitem__(self, rows: Tensor) -> "Visual":
        """The tokens in `rows` only."""
        return Visual(self.tokens[rows], self.deepstack[:, rows])

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Visual":
        """These tokens on `device`."""
        return Visual(self.tokens.to(device), self.deepstack.to(device))


def reused_tokens(computed: Tensor, side: int) -> Tensor:
    """Which visual tokens, `[n]`, stand for patches that were all reused: they are those of the slice before.

    `computed` `[slices, rows, columns]` says which patches were not. A token stands for `side` × `side` patches, for
    fewer at the edges where patches are pooled.
    """
    rows, columns = (-(-count // side) for count in computed.shape[1:])
    return F.adaptive_max_pool2d(computed.float(), (rows, columns)).flatten() == 0
