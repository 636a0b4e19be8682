"""Visual tokens left out of the prompt, after the encoder and before the language model: EVS, VidCom2 and DTD.

All choose among the merged tokens of a whole video by their embeddings alone. The tokens that stay keep the rotary
positions that they have among all, and the text goes on where it would behind all of them. Embeddings are compared in
float32.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor


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
