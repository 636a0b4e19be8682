"""A pretended GPU: its tensors say that they are elsewhere and are computed here, and each wait of the host is noted.

On a GPU the host runs ahead of the device until it asks for a value, or for a size that depends on values, or sends
something in a way that it has to wait for. Where that happens, and in whose code, is the same whatever computes.
Tensors of both places in one operation are an error, as they are there.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import ipcv

GPU = torch.device("meta")  # a device that every build of torch knows, and that computes nothing itself
CPU = torch.device("cpu")
aten = torch.ops.aten

ASKING = {  # what they give is a number, or its size depends on values
    aten._local_scalar_dense,  # also behind int(), bool(), item()
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten.bincount,
    aten.equal,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_}
COPYING = {aten._to_copy, aten.copy_}
FROM_NUMBERS = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


@dataclass(frozen=True)
class Wait:
    """The host waits for the device."""

    what: Literal["asked", "sent"]
    operation: str
    place: str  # in which file, at which line
    ours: bool  # whether that is a file of `ipcv`


class There(Tensor):
    """A tensor on the pretended device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        there = Tensor._make_wrapper_subclass(cls, here.size(), device=GPU, **layout)
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the pretended device's `with`")


class Pretended(TorchDispatchMode):
    """Computes what is there, and notes the waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Wait] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_there = any(isinstance(tensor, There) for tensor in tensors)
        goes_there = kwargs.get("device") == GPU
        if not is_there and not goes_there:
            return func(*args, **kwargs)
        self.look(func, args, kwargs, tensors)
        inner_args, inner_kwargs = tree_map(lambda leaf: leaf.here if isinstance(leaf, There) else leaf, (args, kwargs))
        output = func(*inner_args, **(inner_kwargs | ({"device": CPU} if goes_there else {})))
        if func._schema.is_mutable:
            return args[0]
        leaves = kwargs.get("device") == CPU
        return tree_map(lambda leaf: There(leaf) if isinstance(leaf, Tensor) and not leaves else leaf, output)

    def look(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        """Whether the host has to wait for this operation."""
        packet = func.overloadpacket
        if packet in COPYING:
            source = tensors[-1]
            goes_there = isinstance(tensors[0], There) if packet is aten.copy_ else kwargs.get("device", GPU) == GPU
            if isinstance(source, There) and not goes_there:
                self.note("asked", func)
            elif not isinstance(source, There) and goes_there and not kwargs.get("non_blocking"):
                self.note("sent", func)
        elif packet in INDEXING:
            for index in args[1]:
                if isinstance(index, There) and index.dtype in (torch.bool, torch.uint8):
                    self.note("asked", func)
                elif index is not None and not isinstance(index, There):
                    self.note("sent", func)
        else:
            here = [tensor for tensor in tensors if tensor.ndim and not isinstance(tensor, There)]
            assert len(here) in (0, len(tensors)), f"{func} is given tensors of both places"
            if packet in ASKING or (packet is aten.repeat_interleave and kwargs.get("output_size") is None):
                self.note("asked", func)

    def note(self, what: Literal["asked", "sent"], func: Any) -> None:
        """Write it down, with the nearest code that is not torch's."""
        frame: Any = sys._getframe(1)
        while "/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
            frame = frame.f_back
        file = Path(frame.f_code.co_filename)
        ours = file.is_relative_to(Path(ipcv.__file__).parent)
        self.waits.append(Wait(what, str(func), f"{file.name}:{frame.f_lineno}", ours))


class Numbers(TorchFunctionMode):
    """Numbers on their way: torch itself would make empty tensors of them on "meta", and none out of a subclass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].to(CPU).tolist()
        if func in FROM_NUMBERS and func is Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": args[0].device} | kwargs
            func, args = torch.tensor, args[1:]
        if func in FROM_NUMBERS and (device := kwargs.pop("device", None)) is not None:
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@contextmanager
def pretended() -> Iterator[Pretended]:
    """A `with` in which the pretended device computes."""
    with torch.no_grad(), Numbers(), Pretended() as device:
        yield device


def to_gpu(model: nn.Module) -> None:
    """All weights of `model` there."""
    with pretended():
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                module._parameters[name] = nn.Parameter(There(weight.detach()), requires_grad=False)
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = There(buffer)
