"""Hooks and replaced methods that stay on a model for the length of a `with`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ipcv.architecture.internals import hooks_of


class Handle(Protocol):
    """A hook or another change of a model that can be removed."""

    def remove(self) -> None:
        """Undo the change."""


@runtime_checkable
class Hooks(Protocol):
    """An object whose methods are hooks, and which can put them on a model."""

    def install(self) -> Iterator[Handle]:
        """Register the hooks, one handle each."""


class Override:
    """Replaces the `forward` of one module, until `remove` restores the one that it had."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self.module, self.before = module, vars(module).get("forward")
        module.forward = forward

    def remove(self) -> None:
        """Restore the module's own `forward`."""
        if self.before is None:
            del self.module.forward
        else:
            self.module.forward = self.before


def replace_mask(layer: nn.Module, make: Callable[[], Tensor]) -> RemovableHandle:
    """Give a decoder layer the attention mask that `make` returns, at each call, in place of the model's own."""

    def replace(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # position ids are only read to find packed sequences, and there are none
        return args, kwargs | {"attention_mask": make(), "position_ids": None}

    return layer.register_forward_pre_hook(replace, with_kwargs=True)


@contextmanager
def installed(hooks: Hooks, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Install `hooks` and remove them at the end, also after an exception.

    Raises `ValueError` if one of `layers` already carries hooks that were installed here: the inner ones would see a
    stream that is pruned already.
    """
    for layer in layers:
        if any(isinstance(getattr(hook, "__self__", None), Hooks) for hook in hooks_of(layer)):
            raise ValueError("this model is being pruned in the same place already: leave one of the two out")
    with ExitStack() as stack:
        for handle in hooks.install():
            stack.callback(handle.remove)
        yield
