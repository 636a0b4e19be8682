"""Hooks that stay on a model for the length of a `with`."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from torch import nn
from torch.utils.hooks import RemovableHandle


class Hooks(Protocol):
    """Hook methods of one object, and how to put them on."""

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks, one handle each."""


@contextmanager
def installed(hooks: Hooks, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Install `hooks` and remove them at the end, also after an exception.

    Raises `ValueError` if one of `layers` already carries hooks of the same kind: the inner ones would see a stream
    that is pruned already.
    """
    for layer in layers:
        present = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
        if any(isinstance(getattr(hook, "__self__", None), type(hooks)) for hook in present):
            raise ValueError("this model is being pruned in the same place already: leave one of the two out")
    with ExitStack() as stack:
        for handle in hooks.install():
            stack.callback(handle.remove)
        yield
