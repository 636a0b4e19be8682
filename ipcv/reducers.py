"""Visual tokens left out of the prompt, after the encoder and before the language model: EVS, VidCom2 and DTD.

All choose among the merged tokens of a whole video by their embeddings alone. The tokens that stay keep the rotary
positions that they have among all, and the text goes on where it would behind all of them. Embeddings are compared in
float32.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.tokens import kept_count


@dataclass(frozen=True, kw_only=True)
class Reducer(ABC):
    """Which visual tokens go into the prompt; see `EVS`, `VidCom2` and `DTD`.

    Raises `ValueError` for settings that make no sense.
    """

    @property
    @abstractmethod
    def reduces(self) -> bool:
        """Whether anything is left out."""

    @abstractmethod
    def choose(self, tokens: Tensor) -> Tensor:
        """Which of a video's `tokens` stay: a boolean mask `[t, m]`.

        `tokens` are the embeddings `[t, m, d]` of `t` temporal patches (two frames each, in most families) of `m`
        merged tokens.
        """

    @abstractmethod
    def most(self, frames: int, tokens: int) -> int:
        """At most how many stay of `tokens` in each of `frames` temporal patches."""

    @abstractmethod
    def at(self, keep: float) -> Self:
        """The same with another share that stays."""

    @abstractmethod
    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""


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


@dataclass(frozen=True, kw_only=True)
class DTD(Reducer):
    """Drop the tokens that are like the one before them at the same place (DTD of TimeChat-Online, arXiv 2504.17343).

    The variant of its code that compares features: cosine similarity to the same place in the temporal patch before,
    whether that token stays or not; the first temporal patch stays whole. Dropped is what is more alike than
    `threshold`, or, with `keep`, the most similar ones of each temporal patch. Deviations: how many stay with `keep`
    is rounded down, not how many go; equally similar tokens stay in their order.
    """

    threshold: float = 0.5  # cosine similarity above which a token is dropped; not read if `keep` is given
    keep: float | None = None  # share of each temporal patch but the first that stays; None: by `threshold`
    method: Literal["dtd"] = field(default="dtd", init=False)

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"DTD threshold={self.threshold} must be from -1 to 1")
        if self.keep is not None:
            _check_share("DTD", self.keep)

    @property
    def reduces(self) -> bool:
        """Whether anything is left out."""
        return self.keep != 1

    def choose(self, tokens: Tensor) -> Tensor:
        """The first temporal patch and the tokens that changed, as a mask `[t, m]`."""
        likeness = _likeness(tokens)
        if self.keep is None:
            stays = likeness <= self.threshold
        else:
            stays = _ranks(likeness) < kept_count(tokens.shape[1], self.keep)
        return F.pad(stays, (0, 0, 1, 0), value=True)

    def most(self, frames: int, tokens: int) -> int:
        """At most how many stay of `tokens` in each of `frames` temporal patches."""
        later = tokens if self.keep is None else kept_count(tokens, self.keep)
        return tokens + (frames - 1) * later

    def at(self, keep: float) -> Self:
        """The same with another share that stays."""
        return replace(self, keep=keep)

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        return _likeness_flops(frames, tokens, width)


@dataclass(frozen=True, kw_only=True)
class VidCom2(Reducer):
    """Keep the tokens that stand out of the video and of their frame, more where a frame does (arXiv 2505.14454).

    As in the authors' code: on the half of the channels that vary least over the video, normalised, a token's score is
    how near it is to the video's mean and to its frame's mean (Gaussians of five widths); the lowest stay. A frame's
    share is `keep`, higher where its tokens are far from the video's mean on average (softmax, temperature 0.01), and
    one token at least. The published share is the default. Deviations: equal scores stay in their order; a frame here
    is a temporal patch (two frames), as in the authors' wrapper for Qwen2-VL.
    """

    WIDTHS: ClassVar[tuple[float, ...]] = (0.125, 0.25, 0.5, 1.0, 2.0)
    TEMPERATURE: ClassVar[float] = 0.01

    keep: float = 0.25  # share of the visual tokens that stay, on average over the temporal patches
    method: Literal["vidcom2"] = field(default="vidcom2", init=False)

    def __post_init__(self) -> None:
        _check_share("VidCom2", self.keep)

    @property
    def reduces(self) -> bool:
        """Whether anything is left out."""
        return self.keep < 1

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
        return _ranks(video + frame) < counts[:, None]

    def _nearness(self, unit: Tensor, centre: Tensor) -> Tensor:
        """`[t, m]`, the larger the nearer."""
        distance = (unit - centre).square().sum(-1, keepdim=True)
        return (distance / (-2 * distance.new_tensor(self.WIDTHS))).exp().sum(-1)

    def most(self, frames: int, tokens: int) -> int:
        """At most how many stay of `tokens` in each of `frames` temporal patches."""
        return min(frames * tokens, kept_count(frames * tokens, self.keep) + frames)  # each is rounded, and 1 at least

    def at(self, keep: float) -> Self:
        """The same with another share that stays."""
        return replace(self, keep=keep)

    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""
        count, half = frames * tokens, width // 2
        variance = 4 * count * width  # sum, difference, square, sum
        unit = 3 * count * half  # square, sum, division
        distances = 2 * 4 * count * half  # to each of two centres: mean, difference, square, sum
        gaussians = 2 * 3 * count * len(self.WIDTHS)  # division, exponential, sum
        return variance + unit + distances + gaussians + 2 * count  # means over frames; sum of both scores


def _likeness(tokens: Tensor) -> Tensor:
    """Cosine similarity `[t - 1, m]` of `tokens` `[t, m, d]` to the same place in the temporal patch before."""
    unit = F.normalize(tokens.float(), dim=-1)
    return (unit[1:] * unit[:-1]).sum(-1)


def _likeness_flops(frames: int, tokens: int, width: int) -> int:
    unit = 3 * frames * tokens * width  # square, sum, division
    return unit + 2 * (frames - 1) * tokens * width


def _ranks(scores: Tensor) -> Tensor:
    """The place of each score among those of its row `[t, m]`, the lowest first, equal ones in their order."""
    return scores.sort(dim=1, stable=True).indices.argsort(dim=1)


def _check_share(name: str, keep: float) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"{name} keep={keep} must be more than 0 and at most 1")
