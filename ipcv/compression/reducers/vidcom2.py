"""VidCom2: keep the tokens that stand out of the video and of their frame."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from ipcv.compression.reducers.reducer import Dropper
from ipcv.compression.reducers.similarity import ranks
from ipcv.compression.shares import kept_count


@dataclass(frozen=True, kw_only=True)
class VidCom2(Dropper):
    """Keep the tokens that stand out of the video and of their frame, more where a frame does (arXiv 2505.14454).

    As in the authors' code: on the half of the channels that vary least over the video, normalised, a token's score is
    how near it is to the video's mean and to its frame's mean (Gaussians of five widths); the lowest stay. A frame's
    share is `keep`, higher where its tokens are far from the video's mean on average (softmax, temperature 0.01), and
    one token at least. The published share is the default. Deviations: equal scores stay in their order; a frame here
    is a temporal patch (two frames), as in the authors' wrapper for Qwen2-VL.
    """

    name: ClassVar[str] = "vidcom2"
    arxiv: ClassVar[str] = "2505.14454"
    departures: ClassVar[str] = "a frame is a temporal patch; equal scores stay in their order"

    WIDTHS: ClassVar[tuple[float, ...]] = (0.125, 0.25, 0.5, 1.0, 2.0)
    TEMPERATURE: ClassVar[float] = 0.01

    keep: float = 0.25  # share of the visual tokens that stay, on average over the temporal patches
    method: Literal["vidcom2"] = field(default="vidcom2", init=False)

    def __post_init__(self) -> None:
        self._check_share(self.keep)

    def choose(self, tokens: Tensor) -> Tensor:
        """The tokens that stand out, as a mask `[t, m]`."""
        values = tokens.float()
        calm = values.var(dim=(0, 1), correction=0).topk(tokens.shape[2] // 2, largest=False).indices
        unit = F.normalize(values[..., calm], dim=-1)
        video = self._nearness(unit, unit.mean(dim=(0, 1), keepdim=True))
        frame = self._nearness(unit, unit.mean(dim=1, keepdim=True))
        weights = (-video.mean(1) / self.TEMPERATURE).softmax(0)
        shares = (self.keep * (1 + weights - weights.mean())).clamp(max=1)
        counts = (shares * tokens.shape[1]).round().clamp(min=1)
        return ranks(video + frame) < counts[:, None]

    def _nearness(self, unit: Tensor, centre: Tensor) -> Tensor:
        """`[t, m]`, the larger the nearer."""
        distance = (unit - centre).square().sum(-1, keepdim=True)
        return (distance / (-2 * distance.new_tensor(self.WIDTHS))).exp().sum(-1)

    def most(self, frames: int, tokens: int) -> int:
        """The largest number of tokens that may be left of `frames` temporal patches of so many `tokens` each."""
        return min(frames * tokens, kept_count(frames * tokens, self.keep) + frames)  # each is rounded, and 1 at least

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        count, half = frames * tokens, width // 2
        variance = 4 * count * width  # sum, difference, square, sum
        unit = 3 * count * half  # square, sum, division
        distances = 2 * 4 * count * half  # to each of two centres: mean, difference, square, sum
        gaussians = 2 * 3 * count * len(self.WIDTHS)  # division, exponential, sum
        return variance + unit + distances + gaussians + 2 * count  # means over frames; sum of both scores
