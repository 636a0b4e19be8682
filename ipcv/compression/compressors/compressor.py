"""The base class of methods inside the vision encoder's blocks."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from ipcv.architecture.shapes import VisionShape
from ipcv.compression.method import Method, Place

if TYPE_CHECKING:  # these take seconds to import, and options name this class
    from torch import Tensor
    from transformers import PreTrainedModel


class Kept(list["Tensor"]):
    """Positions that the passes of a `with` kept, a tensor each; `Compressor.__call__` says what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.quality: list[float] = []  # expected of each pass, if the method estimates it

    def forget(self, passes: int) -> None:
        """Forget all passes but the first so many."""
        del self[passes:], self.quality[passes:]


class Compressor(Method):
    """A method that computes fewer tokens in the vision encoder's blocks, installed by a `with`.

    >>> with compressor(model) as kept:
    ...     model.generate(**inputs)
    """

    place: ClassVar[Place] = "compressor"
    keep: (
        float | None
    )  # share of the tokens that the encoder still computes at its end; 1: nothing is compressed; None: not known yet

    @abstractmethod
    def __call__(self, model: "PreTrainedModel") -> "AbstractContextManager[Kept]":
        """Compress the encoder of `model` for the length of the `with`; the model is left as it was.

        Yields a list that grows by one tensor (on the CPU) per forward pass: how many tokens of each frame are kept,
        `[frames]`, or of each window, `[windows]`, where the family attends within windows. It stays empty where
        nothing is compressed. Raises `ModelError` for a family that this method does not run on.
        """

    @abstractmethod
    def check(self, shape: VisionShape) -> None:
        """Raise `ValueError` if an encoder of this shape, such as a shallow one, cannot be compressed so."""

    @abstractmethod
    def check_pass(self, shape: VisionShape, frames: Sequence[int]) -> None:
        """Raise `ValueError` if one pass over `frames` of so many patches each has too few of them."""

    @abstractmethod
    def flops(
        self, shape: VisionShape, frames: Sequence[int], kept: Sequence[int] = (), windows: Sequence[int] = ()
    ) -> int:
        """FLOPs of one compressed pass of the encoder, choosing, rebuilding and merging included.

        `frames` are the tokens of each frame (temporal patch) of the pass, `windows` those of each window of attention
        (empty where the family has none), and `kept` is what the pass added to the list of the `with`. Raises
        `ValueError` if `kept` cannot be what this method keeps of `frames`.
        """
