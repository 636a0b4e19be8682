"""ToMe as hooks on a vision encoder: similar tokens of a frame merge in every block, and part again at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ipcv.architecture.encoder import Encoder
from ipcv.architecture.hooks import Handle, Override, installed
from ipcv.architecture.internals import biased_kernel_function, rotary_function
from ipcv.architecture.shapes import Need, VisionShape, linear
from ipcv.compression.compressors.compressor import Compressor, Kept, PassWork
from ipcv.compression.compressors.encoder_flops import block_flops, ends_flops
from ipcv.compression.compressors.tensors.merging import MergeGroups
from ipcv.compression.shares import kept_count
from ipcv.families import check_needs, find_encoder


@dataclass(frozen=True, kw_only=True)
class ToMe(Compressor):
    """Token merging inside the vision encoder (ToMe, arXiv 2210.09461).

    In every block, between attention and feed-forward part, each second token of a frame finds the most similar one
    among the others (cosine of the keys, averaged over heads); the most similar pairs merge into their mean, weighted
    by how many patches each stands for, and attention counts a token as often (`log` of that size on the logits).

    Where this differs from the paper and its code, which know images and class tokens only: tokens merge within
    their frame. How many is a share and not a number, since frames differ in size, and an error, not a smaller
    number, where a block would have to merge more than half. Tokens keep their order, a merged one taking the place
    and the rotary position of the one that was merged into. Keys are compared before their rotation, which would tell
    places apart and not contents. After the last block every patch gets its token's state, so that the encoder's
    output keeps its shape; the code does so for dense prediction only. Similarities and means are taken in float32.
    Flash attention kernels know no bias on logits: in their place torch's own attention is used.

    >>> with ToMe(keep=0.5)(model):
    ...     model.generate(**inputs)

    Raises `ValueError` for settings that make no sense (alone, for the model's depth or for a frame's size),
    `ModelError` for an unsupported family.
    """

    name: ClassVar[str] = "tome"
    arxiv: ClassVar[str] = "2210.09461"
    departures: ClassVar[str] = (
        "tokens merge within their frame and keep their order; how many is a share; keys are compared before their "
        "rotation; every patch gets its token's state at the end"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"merging"})

    keep: float = 0.5  # share of each frame's tokens left after the last block; equally many merge in every block
    method: Literal["tome"] = field(default="tome", init=False)

    def __post_init__(self) -> None:
        self._check_share(self.keep)

    @contextmanager
    def __call__(self, model: PreTrainedModel, *, video: bool = False) -> Iterator[Kept]:  # noqa: ARG002
        """Merge in the encoder of `model` for the length of the `with`; yields what is left of each frame, per pass."""
        encoder = find_encoder(model)
        check_needs("ToMe", self.needs, model.config.model_type)
        self._check_depth(len(encoder.blocks))
        hooks = _Hooks(self, encoder)
        with installed(hooks, encoder.blocks) if self.compresses else nullcontext():
            yield hooks.left

    def check(self, shape: VisionShape) -> None:
        """Raise `ValueError` if the last block would have to merge more than half."""
        self._check_depth(shape.blocks)

    def check_pass(self, shape: VisionShape, frames: Sequence[int]) -> None:
        """Raise `ValueError` if some block would have to merge more than half of a frame."""
        for patches in set(frames):
            self.merges(patches, shape.blocks)

    def _check_depth(self, depth: int) -> None:
        if self.keep * (depth + 1) < 1:
            raise ValueError(
                f"ToMe keep={self.keep} would merge more than half of the tokens in the last of {depth} blocks: "
                f"keep at least {1 / (depth + 1):.2g}"
            )

    def merges(self, tokens: int, depth: int) -> list[int]:
        """Numbers of a frame's `tokens` that merge in each of `depth` blocks. Raises `ValueError` if too many would.

        >>> ToMe(keep=0.5).merges(20, 4)
        [2, 3, 2, 3]
        """
        gone = tokens - kept_count(tokens, self.keep)
        ends = [gone * block // depth for block in range(depth + 1)]
        if any(2 * (after - before) > tokens - before for before, after in pairwise(ends)):
            raise ValueError(
                f"ToMe keep={self.keep} of {tokens} patches in a frame would merge more than half in one block: "
                "raise keep or the frame's size"
            )
        return [after - before for before, after in pairwise(ends)]

    @property
    def compresses(self) -> bool:
        """Whether any tokens merge."""
        return self.keep < 1

    def flops(self, shape: VisionShape, work: PassWork) -> int:
        """FLOPs of one pass of the encoder with merging; how many tokens merge where is settled by a frame's size."""
        total = ends_flops(shape, sum(work.frames))
        for patches in work.frames:
            tokens = patches
            for merged in self.merges(patches, shape.blocks):
                total += block_flops(shape, [tokens], tokens - merged)
                total += tokens + shape.heads * tokens**2 if tokens < patches else 0  # sizes' logarithms, on the logits
                total += merge_flops(shape, tokens, merged) if merged else 0
                tokens -= merged
        return total


@dataclass(frozen=True)
class _Group:
    """Successive frames of equal size in a pass, and how their tokens have merged."""

    frames: MergeGroups
    merges: list[int]  # per block

    def split(self, packed: Tensor) -> Tensor:
        """Unpack the tokens `[f * n, ...]` of these frames to `[f, n, ...]`."""
        return packed.view(*self.frames.sizes.shape, *packed.shape[1:])


class _Hooks:
    """The hooks of one `with`, and the state of the pass under way: begun anew by each pass."""

    def __init__(self, settings: ToMe, encoder: Encoder) -> None:
        self.settings = settings
        self.blocks = encoder.blocks
        self.groups: list[_Group]
        self.keys: Tensor  # [n, heads, w] of the block under way, before their rotation
        self.merged: Tensor  # [m, d] behind its attention
        self.update: Tensor  # [m, d] of its feed-forward part
        self.left = Kept()

    def install(self) -> Iterator[Handle]:
        """Put the hooks on the blocks, one handle each."""
        yield self.blocks[0].register_forward_pre_hook(self.begin, with_kwargs=True)
        for index, block in enumerate(self.blocks):
            attention = block.get_submodule("attn")
            yield Override(attention, partial(self.attend, attention))
            yield block.get_submodule("norm2").register_forward_pre_hook(partial(self.merge, index))
            yield block.get_submodule("mlp").register_forward_hook(self.hold)
            yield block.register_forward_hook(self.join)
        yield self.blocks[-1].register_forward_hook(self.part)

    def begin(self, _: nn.Module, __: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        """Before the blocks: group successive frames of equal size; every patch is a token of its own."""
        self.groups = []
        bounds = kwargs["cu_seqlens"]
        start, lengths = 0, []
        for patches, same in groupby(bounds.diff().tolist()):
            frames = len(list(same))
            end = start + frames * patches
            merges = self.settings.merges(patches, len(self.blocks))
            cos, sin = (table[start:end] for table in kwargs["position_embeddings"])
            self.groups.append(_Group(MergeGroups.of(frames, patches, (cos, sin)), merges))
            lengths += [patches - sum(merges)] * frames
            start = end
        self.left.append(torch.tensor(lengths))

    def split(self, packed: Tensor) -> list[Tensor]:
        """Unpack `[tokens, ...]` to one `[f, n, ...]` per group of frames."""
        parts = packed.split([group.frames.sizes.numel() for group in self.groups])
        return [group.split(part) for group, part in zip(self.groups, parts, strict=True)]

    def attend(self, module: Any, states: Tensor, **_: Any) -> Tensor:
        """Attention within each frame, through the module's own weights, with every token counted by its size."""
        query, self.keys, value = module.qkv(states).view(len(states), 3, module.num_heads, -1).unbind(1)
        cos, sin = (
            torch.cat([group.frames.rotation[table].flatten(0, 1) for group in self.groups]) for table in (0, 1)
        )
        query, key = rotary_function(module, vision=True)(query, self.keys, cos, sin)
        kernel, parts = biased_kernel_function(module), []
        for group, *qkv in zip(self.groups, *map(self.split, (query, key, value)), strict=True):
            bias = group.frames.bias
            mixed, _ = kernel(
                module,
                *(part.transpose(1, 2) for part in qkv),
                attention_mask=None if bias is None else bias.to(states.dtype),
                scaling=module.scaling,
                is_causal=False,
            )
            parts.append(mixed.flatten(2).flatten(0, 1))
        return module.proj(torch.cat(parts))

    def merge(self, index: int, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Between a block's attention and its feed-forward part: merge."""
        groups, parts = [], []
        for group, states, keys in zip(self.groups, self.split(args[0]), self.split(self.keys), strict=True):
            frames = group.frames
            if group.merges[index]:
                states, frames = frames.merge(states, keys, group.merges[index])
            groups.append(_Group(frames, group.merges))
            parts.append(states.flatten(0, 1))
        self.groups, self.merged = groups, torch.cat(parts)
        return (self.merged, *args[1:])

    def hold(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After a feed-forward part: keep its output, which is one of merged tokens, for `join`."""
        self.update = output
        return output.new_zeros(())  # the block adds it to the tokens that had not merged yet

    def join(self, _: nn.Module, __: tuple[Tensor, ...], ___: Tensor) -> Tensor:
        """After a block: the sum of the merged tokens and their feed-forward part in place of the block's output."""
        output = self.merged + self.update
        del self.keys, self.merged, self.update
        return output

    def part(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the last block: give every patch the state of its token."""
        parts = [
            group.frames.part(states).flatten(0, 1)
            for group, states in zip(self.groups, self.split(output), strict=True)
        ]
        del self.groups
        return torch.cat(parts)


def merge_flops(shape: VisionShape, tokens: int, merged: int) -> int:
    """FLOPs of finding the `merged` of a frame's `tokens` that are most like another one, and of merging them."""
    head = shape.width // shape.heads
    keys = tokens * shape.width + 3 * tokens * head  # mean over heads; square, sum, division
    likeness = linear(tokens - tokens // 2, head, tokens // 2)
    sizes = merged
    means = (2 * tokens + tokens - merged) * shape.width  # weighted, summed, divided
    return keys + likeness + sizes + means
