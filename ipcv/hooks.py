"""Hooks that stay on a model for the length of a `with`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import nn


class Removable(Protocol):
    """What undoes one change to a model, as torch's hook handles do."""

    def remove(self) -> None:
        """Undo it."""


@runtime_checkable
class Hooks(Protocol):
    """Hook methods of one object, and how to put them on."""

    def install(self) -> Iterator[Removable]:
        """Register the hooks, one handle each."""


class Replaced:
    """Another `forward` of one module, this instance alone, until `remove`."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module = module
        self._before = vars(module).get("forward")  # libraries that move weights put theirs there
        module.forward = forward

    def remove(self) -> None:
        """Give the module its own back."""
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before


@contextmanager
def installed(hooks: Hooks, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Install `hooks` and remove them at the end, also after an exception.

    Raises `ValueError` if one of `layers` already carries hooks that were installed here: the inner ones would see a
    stream that is pruned already.
    """
    for layer in layers:
        present = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
        if any(isinstance(getattr(hook, "__self__", None), Hooks) for hook in present):
            raise ValueError("this model is being pruned in the same place already: leave one of the two out")
    with ExitStack() as stack:
        for handle in hooks.install():
            stack.callback(handle.remove)
        yield
