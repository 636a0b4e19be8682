"""Pruning visual tokens inside the language model: what a method is; `ipcv.dropping` carries it out."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from ipcv.architecture.hooks import installed
from ipcv.architecture.shapes import keyless_layers, layer_windows
from ipcv.dropping import Dropping, Prompt
from ipcv.families import find_language


@dataclass(frozen=True, kw_only=True)
class LanguagePruner(ABC):
    """Visual tokens pruned at the input of some decoder layers; see `Dart`, `FastV` and `V2Drop` in `ipcv.llm`.

    For one prompt at a time, with the key-value cache on (the default of transformers). Raises `ValueError` for
    settings that make no sense, `ModelError` for an unsupported family.
    """

    @contextmanager
    def __call__(self, model: PreTrainedModel) -> Iterator[None]:
        """Prune in the language model of `model` for the length of the `with`; the model is left as it was."""
        language = find_language(model.config.model_type)
        layers = model.get_decoder().layers
        text = model.config.get_text_config()
        self.check(layer_windows(text), keyless_layers(text))
        steps = self.steps(len(layers), keyless_layers(text))
        hooks = Dropping(self, model, layers, steps, has_newlines=language.newline is not None)
        with installed(hooks, layers) if self.prunes else nullcontext():
            yield

    @property
    @abstractmethod
    def prunes(self) -> bool:
        """Whether anything is dropped."""

    @abstractmethod
    def steps(self, depth: int, keyless: Collection[int] = ()) -> tuple[int, ...]:
        """The layers, ascending, at whose input tokens are dropped, of a language model of `depth` layers.

        Those in `keyless` attend linearly. Raises `ValueError` if tokens cannot be chosen there.
        """

    def check(self, windows: Sequence[int], keyless: Collection[int] = ()) -> None:
        """Raise `ValueError` if tokens cannot be chosen in a language model with these `windows` per layer, 0 for none.

        They are the positions that a token attends to at most; layers in `keyless` attend linearly.
        """
        self.steps(len(windows), keyless)

    @abstractmethod
    def counts(self, visual: int) -> tuple[int, ...]:
        """How many of a prompt's `visual` tokens stay from each of those layers on."""

    @abstractmethod
    def choose(self, prompt: Prompt) -> Tensor:
        """Which of `prompt.visual` stay: a boolean mask `[n]`."""
