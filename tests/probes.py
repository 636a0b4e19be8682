"""What the tests look at a model with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel


def error(got: Tensor, want: Tensor) -> float:
    """Relative error of `got`."""
    return float((got.double().cpu() - want.double().cpu()).norm() / want.double().norm())


def hooks(model: nn.Module) -> int:
    """How many forward hooks and replaced methods are on the model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in vars(m)) for m in model.modules())


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Another attention implementation for the length of a `with`."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


class BombError(RuntimeError):
    """What goes off in the middle of a forward pass."""


@contextmanager
def bomb(module: nn.Module) -> Iterator[None]:
    """A `with` in which `module` must be called, and raises."""

    def explode(*_: Any) -> None:
        raise BombError

    handle = module.register_forward_pre_hook(explode)
    try:
        with pytest.raises(BombError):
            yield
    finally:
        handle.remove()


class OperatorCount(TorchDispatchMode):
    """How many tensor operations ran in a `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def looped(heads: tuple[Tensor, Tensor, Tensor], queries: Sequence[int], keys: Sequence[int], scale: float) -> Tensor:
    """Mixed values `[k, heads, c]` of queries over keys and values, segment by segment of these lengths."""
    query, key, value = heads
    mixed = []
    for q, k, v in zip(query.split(list(queries)), key.split(list(keys)), value.split(list(keys)), strict=True):
        shares = (torch.einsum("qhc,khc->hqk", q, k) * scale).softmax(-1)
        mixed.append(torch.einsum("hqk,khc->qhc", shares, v))
    return torch.cat(mixed)


@contextmanager
def hungry(module, bits):
    """A model whose `module` also takes 2 to the power of `bits` of its tokens bytes, which the system may refuse."""

    def allocate(_, args, kwargs):
        states = args[0] if args else kwargs["inputs_embeds"]
        torch.empty(int(2 ** bits(states.shape[-2])), dtype=torch.uint8)

    handle = module.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
