"""The base class of methods inside the vision encoder's blocks."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ipcv.architecture.shapes import VisionShape
from ipcv.compression.method import Method, Place

if TYPE_CHECKING:  # these take seconds to import, and options name this class
    from torch import Tensor
    from transformers import PreTrainedModel


class Kept(list["Tensor"]):
    """Tokens that the passes of a `with` kept, a tensor of counts each; `Compressor.__call__` says of which parts."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[Tensor] = []  # per pass, tokens of each part that are computed and not reused
        self.masks: list[Tensor] = []  # per visual input of each pass, [slices, rows, columns] its computed patches
        self.quality: list[float] = []  # expected of each pass, if the method estimates it
        self.was_cut = False  # whether passes were forgotten since one began: the next one goes on from none

    def forget(self, passes: int) -> None:
        """Forget all passes but the first so many, each of one visual input: the next one begins anew."""
        self.was_cut |= len(self) > passes
        for each in (self, self.computed, self.masks, self.quality):
            del each[passes:]


@dataclass(frozen=True, kw_only=True)
class PassWork:
    """One pass of an encoder in numbers of tokens: what its FLOPs depend on."""

    frames: Sequence[int]  # of each frame (temporal patch)
    windows: Sequence[int] = ()  # of each window of attention; (): the family has none
    computed: Sequence[int] = ()  # of these windows, or frames, that are computed in some block; (): all
    kept: Sequence[int] = ()  # of these windows, or frames, that are computed in the last block; (): all


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
    def __call__(self, model: "PreTrainedModel", *, video: bool = False) -> "AbstractContextManager[Kept]":
        """Compress the encoder of `model` for the length of the `with`; the model is left as it was.

        Yields a list that grows by one tensor (on the CPU) per forward pass: how many tokens of each frame are kept,
        `[frames]`, or of each window, `[windows]`, where the family attends within windows. It stays empty where
        nothing is compressed. `video` says that the passes have successive frames of one video, and nothing else: a
        pass may then go on where the one before ended. Raises `ModelError` for a family that this method does not run
        on.
        """

    @abstractmethod
    def check(self, shape: VisionShape) -> None:
        """Raise `ValueError` if an encoder of this shape, such as a shallow one, cannot be compressed so."""

    @abstractmethod
    def check_pass(self, shape: VisionShape, frames: Sequence[int]) -> None:
        """Raise `ValueError` if one pass over `frames` of so many patches each has too few of them."""

    @property
    @abstractmethod
    def compresses(self) -> bool:
        """Whether these settings leave anything out."""

    @property
    def reuses(self) -> bool:
        """Whether patches that hardly changed are taken over from earlier frames."""
        return False

    @abstractmethod
    def flops(self, shape: VisionShape, work: PassWork) -> int:
        """FLOPs of one compressed pass of the encoder, choosing, rebuilding and merging included.

        What is computed and kept is what the pass added to the list of the `with`. Raises `ValueError` if that cannot
        be what this method keeps.
        """
