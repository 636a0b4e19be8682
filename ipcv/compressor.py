"""IPCV as hooks on a vision encoder: settings, context manager, one state object per forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ipcv.encoders import Encoder, find_encoder
from ipcv.hooks import installed
from ipcv.tokens import Blend, Select, Split, kept_bounds, kept_count, most_changed


@dataclass(frozen=True, kw_only=True)
class IPCV:
    """Training-free compression inside the vision encoder (arXiv 2512.18747). The defaults are the paper's.

    From block `layer` on, only the tokens that block `layer - 1` changed most are computed; the first `stabilize`
    of these blocks still attend to all tokens, the dropped ones being rebuilt from their nearest kept neighbours,
    and after the last block every token is rebuilt, so that the encoder's output keeps its shape. Attention stays
    within each frame, and one forward pass is one choice: tokens of all frames of the call compete.

    >>> with IPCV(keep=0.35)(model):
    ...     model.generate(**inputs)

    Raises `ValueError` for settings that make no sense (alone or for the model's depth) and when nothing would be
    kept, `ModelError` for an unsupported family.
    """

    keep: float = 0.35  # share of visual tokens the later blocks compute
    layer: int = 3  # first block that runs on kept tokens
    stabilize: int = 7  # blocks whose attention still sees every token
    neighbors: int = 10  # kept tokens that rebuild a dropped one
    select: Select = "change"  # how the kept tokens are chosen
    blend: Blend = "mean"  # how neighbours are weighted

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must be more than 0 and at most 1")
        if self.layer < 1:
            raise ValueError(f"layer={self.layer} must be at least 1: tokens are chosen by what the block before did")
        if self.stabilize < 0:
            raise ValueError(f"stabilize={self.stabilize} must not be negative")
        if self.neighbors < 1:
            raise ValueError(f"neighbors={self.neighbors} must be at least 1")
        if self.select not in get_args(Select):
            raise ValueError(f"select={self.select!r} is not known; known: {', '.join(get_args(Select))}")
        if self.blend not in get_args(Blend):
            raise ValueError(f"blend={self.blend!r} is not known; known: {', '.join(get_args(Blend))}")

    @contextmanager
    def __call__(self, model: PreTrainedModel) -> Iterator[list[Tensor]]:
        """Compress the encoder of `model` for the length of the `with`; the model is left as it was.

        Yields a list that grows by one tensor per forward pass: the bounds (`cu_seqlens`) of its frames once only the
        kept tokens are left. With `keep=1` nothing is changed and the list stays empty.
        """
        encoder = find_encoder(model)
        self.check_depth(len(encoder.blocks))
        hooks = _Hooks(self, encoder)
        with installed(hooks, encoder.blocks) if self.keep < 1 else nullcontext():
            yield hooks.kept_bounds

    def check_depth(self, depth: int) -> None:
        """Raise `ValueError` if an encoder of `depth` blocks ends before `layer`."""
        if self.layer >= depth:
            raise ValueError(
                f"layer={self.layer} is past the encoder's last block: it has {depth}, from 0 to {depth - 1}"
            )


@dataclass(frozen=True)
class _Pass:
    """What one forward pass has decided at the pruning layer."""

    split: Split
    attention: dict[str, Any]  # the blocks' keyword arguments, narrowed to the kept tokens


class _Hooks:
    """The hooks of one `with`, and the state of the pass under way: replaced whole by each pass."""

    def __init__(self, settings: IPCV, encoder: Encoder) -> None:
        self.settings = settings
        self.blocks = encoder.blocks
        self.current: _Pass
        self.kept_bounds: list[Tensor] = []

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the blocks, one handle each."""
        first, stable = self.settings.layer, self.settings.stabilize
        yield self.blocks[first - 1].register_forward_hook(self.split, with_kwargs=True)
        for block in self.blocks[first : first + stable]:
            yield block.register_forward_pre_hook(self.restore_input, with_kwargs=True)
            mlp = block.get_submodule("mlp")
            yield mlp.register_forward_pre_hook(self.keep_input)
            yield mlp.register_forward_hook(self.spread_output)
            yield block.register_forward_hook(self.keep_output)
        for block in self.blocks[first + stable :]:
            yield block.register_forward_pre_hook(self.narrow_attention, with_kwargs=True)
        yield self.blocks[-1].register_forward_hook(self.restore_output)

    def split(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        tokens = len(output)
        count = kept_count(tokens, self.settings.keep)
        if count < 1:
            raise ValueError(
                f"keep={self.settings.keep} of {tokens} visual tokens keeps none; raise keep or add frames"
            )
        keep = most_changed(args[0], output, count)
        split = Split.of(output, keep, self.settings.neighbors)
        bounds = kept_bounds(kwargs["cu_seqlens"], keep, tokens)
        positions = tuple(table[keep] for table in kwargs["position_embeddings"])
        self.kept_bounds.append(bounds)
        self.current = _Pass(split, {"cu_seqlens": bounds, "position_embeddings": positions})
        return split.kept

    def restore_input(
        self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        return (self.current.split.restore(args[0]), *args[1:]), kwargs

    def keep_input(self, _: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        return args[0][self.current.split.keep]

    def spread_output(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.current.split.spread(output)

    def keep_output(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output[self.current.split.keep]

    def narrow_attention(
        self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        return args, kwargs | self.current.attention

    def restore_output(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        restored = self.current.split.restore(output)
        del self.current
        return restored
