"""The base classes of methods inside the language model. They choose; `dropping` takes the tokens out."""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from ipcv.architecture.shapes import Need, TextShape
from ipcv.compression.method import Method, Place

if TYPE_CHECKING:  # these take seconds to import, and options name this class
    from torch import Tensor
    from transformers import PreTrainedModel

    from ipcv.compression.pruners.prompt_state import PromptState


@dataclass(frozen=True, eq=False)
class Pruned:
    """Visual tokens that a pruner leaves of a prompt's `n`: as they were, or several of them merged into one."""

    stays: "Tensor"  # [n] boolean: the tokens that keep their place
    states: "Tensor | None" = None  # [k, d] of these from here on; None: as they were


class Pruner(Method):
    """A method that prunes visual tokens at the input of some decoder layers, for these and all later ones.

    For one prompt at a time, with the key-value cache on (the default of transformers). Raises `ValueError` for
    settings that make no sense, `ModelError` for an unsupported family.
    """

    place: ClassVar[Place] = "pruner"

    @contextmanager
    def __call__(self, model: "PreTrainedModel") -> Iterator[None]:
        """Prune in the language model of `model` for the length of the `with`; the model is left as it was."""
        from ipcv.architecture.hooks import installed
        from ipcv.compression.pruners.dropping import Dropping
        from ipcv.families import find_language

        language = find_language(model.config.model_type)
        shape = language.decoder(model.config.get_text_config())
        self.check(shape)
        steps = self.steps(shape.layers, shape.linear_layers)
        hooks = Dropping(self.prune, model, shape, steps, has_newlines=language.newline is not None)
        with installed(hooks, hooks.layers) if self.prunes else nullcontext():
            yield

    @property
    @abstractmethod
    def prunes(self) -> bool:
        """Whether any token is dropped."""

    @abstractmethod
    def steps(self, depth: int, linear: Collection[int] = ()) -> tuple[int, ...]:
        """The layers, ascending, at whose input tokens are dropped, of a language model of `depth` layers.

        Those in `linear` attend linearly. Raises `ValueError` if tokens cannot be chosen there.
        """

    def check(self, shape: TextShape) -> None:
        """Raise `ValueError` if tokens cannot be chosen in a language model of this shape."""
        self.steps(shape.layers, shape.linear_layers)

    def settled(self, depth: int, linear: Collection[int]) -> tuple[Self, str | None]:  # noqa: ARG002 - for methods that leave something open
        """This pruner with nothing left open for the model that has it, and a warning if that is not the usual."""
        return self, None

    @abstractmethod
    def counts(self, visual: int) -> tuple[int, ...]:
        """Numbers of a prompt's `visual` tokens that stay, from each pruning layer on."""

    @abstractmethod
    def choose(self, prompt: "PromptState") -> "Tensor":
        """Which of `prompt.visual` stay: a boolean mask `[n]`."""

    def prune(self, prompt: "PromptState") -> Pruned:
        """Leave the tokens of `choose`, as they are. A method that merges others into these overrides this."""
        return Pruned(self.choose(prompt))

    @abstractmethod
    def flops(self, shape: TextShape, length: int, visual: int) -> int:
        """FLOPs of choosing, for a prompt of `length` tokens of which `visual` are visual, one at least."""


@dataclass(frozen=True, kw_only=True)
class OneLayerPruner(Pruner):
    """A pruner that acts once, at a layer that follows one with keys."""

    LAYER: ClassVar[int] = 3
    needs: ClassVar[frozenset[Need]] = frozenset({"keys"})

    keep: float = 0.5  # share of the prompt's visual tokens that the later layers see
    layer: int | None = None  # first decoder layer without the dropped tokens; None: 3, or the next one that can be

    def __post_init__(self) -> None:
        self._check_share(self.keep)
        if self.layer is not None and self.layer < 1:
            raise ValueError(
                f"{type(self).__name__} layer={self.layer} must be at least 1: "
                "tokens are chosen by what the layer before did"
            )

    @property
    def prunes(self) -> bool:
        """Whether any token is dropped."""
        return self.keep < 1

    def steps(self, depth: int, linear: Collection[int] = ()) -> tuple[int, ...]:
        """The pruning layer. Raises `ValueError` if it is past the last of `depth`, or follows one of `linear`."""
        able = [layer for layer in range(1, depth) if layer - 1 not in linear]
        chosen = self.layer
        if chosen is None:
            chosen = next((layer for layer in able if layer >= self.LAYER), self.LAYER)
        if chosen >= depth:
            raise ValueError(f"layer={chosen} is past the language model's last layer ({depth - 1}, counted from 0)")
        if chosen not in able:
            others = f"use one of {', '.join(map(str, able))}" if able else "use V2Drop, which needs none"
            raise ValueError(
                f"{type(self).__name__} layer={chosen} follows layer {chosen - 1} of the language model, which attends "
                f"linearly and has no keys to choose tokens by: {others}"
            )
        return (chosen,)

    def settled(self, depth: int, linear: Collection[int]) -> tuple[Self, str | None]:
        """This pruner with its layer named, and a warning if that is not the usual one though none was asked for."""
        (layer,) = self.steps(depth, linear)
        settled = replace(self, layer=layer)
        if self.layer is not None or layer == self.LAYER or not self.prunes:
            return settled, None
        return settled, (
            f"{type(self).__name__} drops visual tokens from the language model's layer {layer} on, not {self.LAYER}: "
            f"layer {self.LAYER - 1} of this model attends linearly and has no keys to choose them by"
        )

    def counts(self, visual: int) -> tuple[int, ...]:
        """The number of a prompt's `visual` tokens that stay, alone in a tuple."""
        return (self.count(visual),)

    @abstractmethod
    def count(self, visual: int) -> int:
        """The number of `visual` tokens that stay: 1 at least, but 0 of 0."""
