"""The base class of methods between the encoder and the language model.

A reducer sees the embeddings of a whole video, and which of them the encoder reused. It returns the visual tokens for
the prompt: each has the rotary position that it would have in the full prompt, and so has the text behind them.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ipcv.compression.method import Method, Place

if TYPE_CHECKING:  # it takes seconds to import, and options name this class
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reduced:
    """Visual tokens that a reducer leaves of a video's `n`: as they were, or several of them merged into one."""

    tokens: "Tensor"  # [k, d] for the prompt
    donor: "Tensor"  # [k] the token, 0 to n - 1, whose place in the grid (position ids, DeepStack) each has; ascending

    @classmethod
    def of(cls, tokens: "Tensor", stays: "Tensor") -> Self:
        """Those of a video's `tokens` `[t, m, d]` that stay, by a mask `[t, m]`, as they are."""
        donor = stays.flatten().nonzero()[:, 0]
        return cls(tokens.flatten(0, 1)[donor], donor)


class Reducer(Method):
    """A method that puts fewer visual tokens into the prompt."""

    place: ClassVar[Place] = "reducer"
    needs_reuse: ClassVar[bool] = False  # whether it goes by what the compressor reused
    has_share: ClassVar[bool] = True  # whether `at` can make it leave fewer tokens
    keep: float | None  # share of the visual tokens that stays; None: whatever else the settings say

    @property
    def reduces(self) -> bool:
        """Whether the prompt gets fewer tokens than the video has."""
        return self.keep != 1

    def at(self, keep: float) -> Self:
        """This reducer with another `keep`."""
        changes: dict[str, Any] = {"keep": keep}
        return replace(self, **changes)  # type: ignore[type-var] # methods are dataclasses

    @abstractmethod
    def __call__(self, tokens: "Tensor", reused: "Tensor | None" = None) -> Reduced:
        """Reduce a video's `tokens`: embeddings `[t, m, d]` of `m` visual tokens in each of `t` temporal patches.

        A temporal patch is two frames in most families. Tokens are counted temporal patch by temporal patch. `reused`
        `[t, m]` says which of them are those of the temporal patch before, because the encoder reused these; None: no
        token is known to be.
        """

    @abstractmethod
    def most(self, frames: int, tokens: int) -> int:
        """The largest number of tokens that may be left of `frames` temporal patches of so many `tokens` each."""

    @abstractmethod
    def flops(self, frames: int, tokens: int, width: int) -> int:
        """FLOPs of choosing among `tokens` of `width` values in each of `frames` temporal patches."""

    def warnings(self, count: int, kept: int) -> tuple[str, ...]:  # noqa: ARG002 - for methods that have some
        """Warnings for the user about a video of which `kept` of `count` tokens have stayed."""
        return ()


class Dropper(Reducer):
    """A reducer that drops tokens and changes none."""

    def __call__(self, tokens: "Tensor", reused: "Tensor | None" = None) -> Reduced:  # noqa: ARG002 - it compares tokens
        """Leave the tokens of `choose`, as they are."""
        return Reduced.of(tokens, self.choose(tokens))

    @abstractmethod
    def choose(self, tokens: "Tensor") -> "Tensor":
        """Which of a video's `tokens` `[t, m, d]` stay: a boolean mask `[t, m]`."""
