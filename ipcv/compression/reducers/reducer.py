"""The base class of methods between the encoder and the language model.

A reducer gets the visual tokens of a whole video and chooses by their embeddings alone what the prompt has of them.
Tokens that stay keep the rotary positions that they have among all, and the text behind them keeps its own.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ipcv.compression.method import Method, Place

if TYPE_CHECKING:  # it takes seconds to import, and options name this class
    from torch import Tensor


class Reducer(Method):
    """A method that leaves visual tokens out of the prompt."""

    place: ClassVar[Place] = "reducer"
    keep: float | None  # share of the visual tokens that stays; None: whatever else the settings say

    @property
    def reduces(self) -> bool:
        """Whether anything is left out."""
        return self.keep != 1

    def at(self, keep: float) -> Self:
        """This reducer with another share that stays."""
        changes: dict[str, Any] = {"keep": keep}
        return replace(self, **changes)  # type: ignore[type-var] # methods are dataclasses

    @abstractmethod
    def choose(self, tokens: "Tensor") -> "Tensor":
        """Which of a video's `tokens` stay: a boolean mask `[t, m]`.

        `tokens` are the embeddings `[t, m, d]` of `t` temporal patches (two frames each, in most families) of `m`
        merged tokens.
        """

    @abstractmethod
    def most(self, frames: int, tokens: int) -> int:
        """At most how many stay of `tokens` in each of `frames` temporal patches."""

    @abstractmethod
    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""

    def warnings(self, count: int, kept: int) -> tuple[str, ...]:  # noqa: ARG002 - for methods that have some
        """What a user should know when `kept` of a video's `count` tokens have stayed."""
        return ()
