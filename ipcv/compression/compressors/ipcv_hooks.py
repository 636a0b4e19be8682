"""IPCV's hooks on a vision encoder, and the state of one forward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipcv.architecture.encoder import Encoder, Heads, Rotation, rotate
from ipcv.architecture.grids import Grid
from ipcv.architecture.hooks import Handle, Override
from ipcv.compression.compressors.compressor import Kept
from ipcv.compression.compressors.reuse import Reuse
from ipcv.compression.compressors.tensors.attention import attend
from ipcv.compression.compressors.tensors.features import describe
from ipcv.compression.compressors.tensors.packing import Division, PackedSegments, divide
from ipcv.compression.compressors.tensors.selection import Stream, choose, sufficient
from ipcv.compression.compressors.tensors.tokens import Split, mask_of, positions

if TYPE_CHECKING:
    from ipcv.compression.compressors.ipcv_compressor import IPCV


@dataclass
class _Pass:
    """One forward pass under way. Blocks get some tokens of it only, the present ones."""

    shape: torch.Size  # of all tokens, as the family's blocks take them
    wholes: Sequence[PackedSegments]  # all tokens as frames and, if the encoder has windows, as windows
    computed: Tensor  # [c] positions of the computed tokens among all, ascending
    present: Tensor  # [k] positions of the present ones
    divisions: Sequence[Division] = ()  # of the present tokens, one for each of `wholes`
    counts: Tensor | None = None  # of the computed tokens in each part of the last of `wholes`; None: all are
    split: Split | None = None  # of the computed tokens, from the pruning layer on
    input: Tensor = field(init=False)  # [k, d] present tokens at the start of the block under way

    def division(self, bounds: Tensor | None) -> Division:
        """The division that a block attends within, found by the number of its `bounds`; None: frames."""
        count = self.wholes[0].count if bounds is None else len(bounds) - 1
        return next(each for each in self.divisions if each.whole.count == count)


class IPCVHooks:
    """The hooks of one `with`, and the state of the pass under way: replaced whole by each pass."""

    def __init__(self, settings: "IPCV", encoder: Encoder, *, is_video: bool) -> None:
        self.settings = settings
        self.encoder = encoder
        self.blocks = encoder.blocks
        self.is_video = is_video
        self.reuse = Reuse(encoder, settings.rule(encoder.pixel_range), is_video=is_video) if settings.reuse else None
        self.grids: Sequence[Grid]  # of the pass under way
        self.masks: Sequence[Tensor]  # of its patches that are computed, per visual input
        self.expected: float  # quality of its output
        self.current: _Pass
        self.kept = Kept()

    def install(self) -> Iterator[Handle]:
        """Put the hooks on the blocks and take over their attention, one handle each."""
        settings, depth = self.settings, len(self.blocks)
        last = settings.layer + settings.stable(depth)
        first = 0 if self.reuse else settings.layer  # block from which on not all tokens are present
        yield self.encoder.patch_embedding.register_forward_pre_hook(self.begin, with_kwargs=True)
        if self.encoder.embedding is not None:
            yield Override(self.encoder.embedding, partial(_embed, self.encoder.embedding))
        yield self.blocks[0].register_forward_pre_hook(self.narrow)
        if settings.keep != 1:
            yield self.blocks[settings.layer - 1].register_forward_hook(self.split)
        for number, block in enumerate(self.blocks[first:], first):
            yield block.register_forward_pre_hook(self.enter)
            attention = block.get_submodule(self.encoder.attention.module)
            yield Override(attention, partial(self.attend, number, everything=number < last))
        for number, merger in self.encoder.deepstack.items():
            if first - 1 <= number < depth - 1:
                yield merger.register_forward_pre_hook(partial(self.feed_deepstack, number))
        # ahead of hooks of transformers' own, which hand on what a block gives
        yield self.blocks[-1].register_forward_hook(self.restore, prepend=True)

    def begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the encoder: read the size of each visual input, and compare its pixels."""
        self.grids = self.encoder.grids(*args, **kwargs)
        if self.is_video:
            self.grids = [_of_one_video(self.grids)]
        if self.reuse:
            self.masks = self.reuse.begin(self.grids, self.encoder.pixels(*args, **kwargs), anew=self.kept.was_cut)
            self.kept.was_cut = False

    def narrow(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Before the first block: hand on only the tokens that are computed."""
        states, encoder = args[0], self.encoder
        wholes = [PackedSegments.of(sizes, states.device) for sizes in encoder.divisions(self.grids)]
        everything = torch.arange(wholes[0].rows, device=states.device)
        self.current = _Pass(states.shape, wholes, everything, everything)
        if self.reuse is None:
            return None
        order = encoder.order(self.grids, states.device)
        is_computed = self.reuse.computed_tokens([each.to(states.device) for each in self.masks], order)
        divisions = divide(wholes, is_computed)
        computed = positions(is_computed, divisions[0].kept.rows)
        self.current = _Pass(states.shape, wholes, computed, computed, divisions)
        self.reuse.place(computed, divisions[0])
        self.current.counts = torch.tensor(divisions[-1].kept.lengths)
        return (self.shaped(states.reshape(-1, states.shape[-1])[computed]), *args[1:])

    def split(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the last full block: choose the kept tokens, and hand on only these."""
        settings, now = self.settings, self.current
        before, states = (each.reshape(-1, output.shape[-1]) for each in (args[0], output))
        patches, stream = self.stream(before, states)
        likeness = stream.features if settings.blend == "distance" else stream.states
        if settings.keep is None:
            most, self.expected = sufficient(stream, settings.quality or 0.0)
            chosen = most.sort().values
        else:
            chosen = choose(settings.select, stream, self.count(len(patches)))
        split = Split.of(stream.states, chosen, likeness, settings.neighbors, settings.blend).among(states, patches)
        present = now.computed[split.keep]
        divisions = divide(now.wholes, mask_of(present, now.wholes[0].rows))
        self.current = _Pass(now.shape, now.wholes, now.computed, present, divisions, now.counts, split)
        return self.shaped(split.kept)

    def count(self, patches: int) -> int:
        """How many of so many computed patches are kept. Raises `ValueError` where all of a pass would be dropped."""
        tokens, heads = self.current.wholes[0].rows, self.encoder.protected * self.current.wholes[0].count
        count = self.settings.count(patches, tokens - heads)
        if not count and not self.reuse:
            raise ValueError(
                f"keep={self.settings.keep} of {patches} visual tokens keeps none; raise keep or add frames"
            )
        return count

    def stream(self, before: Tensor, states: Tensor) -> tuple[Tensor, Stream]:
        """The patches to choose from: which of the computed tokens they are, and all that the choice goes by.

        `before` and `states` are the computed tokens `[c, d]` at the start and at the end of the block ahead.
        """
        encoder, now = self.encoder, self.current
        frames, order = now.wholes[0], encoder.order(self.grids, states.device)
        everything = torch.arange(frames.rows, device=states.device)
        frame = frames.owner(everything)
        place = (everything if order is None else order) - frames.bounds[frame]
        is_patch, heads = place >= encoder.protected, encoder.protected * frames.count
        patches = positions(is_patch[now.computed], len(states) - heads)
        own, where = states[patches], now.computed[patches]
        features = own
        if self.settings.compares_features:
            whole = self.reuse.spread("states", states) if self.reuse else states
            all_patches = positions(is_patch, frames.rows - heads) if heads else everything
            described = describe(whole[all_patches], self.grids, encoder.merge, order)
            features = described[where - encoder.protected * (frame[where] + 1)]
        return patches, Stream(before[patches], own, features, frame[where], place[where])

    def shaped(self, present: Tensor) -> Tensor:
        """Give present tokens `[k, d]` the dimensions that the family's blocks take."""
        return present.view(*(1,) * (len(self.current.shape) - 2), *present.shape)

    def enter(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Before a block that runs on some tokens: remember its input."""
        self.current.input = args[0].view(-1, args[0].shape[-1])

    def attend(self, number: int, /, *args: Any, everything: bool, **named: Any) -> Any:
        """Replace a block's attention: queries of the present tokens, keys and values of all tokens or of these."""
        style, now = self.encoder.attention, self.current
        attention = self.blocks[number].get_submodule(style.module)
        normed: Tensor = args[0] if args else named["hidden_states"]
        normed = normed.view(-1, normed.shape[-1])
        query, key, value = self.project(number, normed) if everything else style.project(attention, normed, normed)
        rotations: Rotation = named.get("position_embeddings")
        query = rotate(query, _at(rotations, now.present))
        key = rotate(key, _at(rotations, now.computed if everything else now.present))
        division = now.division(named.get("cu_seqlens"))
        mix = partial(attend, attention, scale=getattr(attention, style.scale))
        if self.reuse:
            mixed = self.reuse.attend(str(number), (query, key, value), division, mix)
        else:
            mixed = mix((query, key, value), division.kept, division.whole if everything else division.kept)
        return style.output(attention, self.shaped(mixed))

    def project(self, number: int, normed: Tensor) -> Heads:
        """Queries of the present tokens `normed` `[k, d]`, keys and values of all computed ones, not rotated."""
        style, split, block = self.encoder.attention, self.current.split, self.blocks[number]
        attention = block.get_submodule(style.module)
        if split is None:
            return style.project(attention, normed, normed)
        if self.settings.stabilizer == "states":
            rebuilt = block.get_submodule(style.norm)(split.rebuild(self.current.input))
            return style.project(attention, normed, split.join(normed, rebuilt))
        query, key, value = style.project(attention, normed, normed)
        return query, split.average(key), split.average(value)

    def feed_deepstack(self, number: int, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Restore every token for DeepStack, which reads the output of a block."""
        return (self.restored(f"deepstack {number}", args[0]), *args[1:])

    def restore(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the last block: rebuild every token."""
        restored = self.restored("output", output)
        self.report()
        if self.reuse:
            self.reuse.end()
        del self.current
        return restored

    def report(self) -> None:
        """Tell the user of the `with` what the pass computed and kept."""
        now = self.current
        self.kept.append(torch.tensor(now.divisions[-1].kept.lengths))
        if self.settings.keep is None:
            self.kept.quality.append(self.expected)
        if now.counts is not None:
            self.kept.computed.append(now.counts)
            self.kept.masks += self.masks

    def restored(self, name: str, output: Tensor) -> Tensor:
        """Every token from a block's `output`, which has the present ones; `name` tells this output from others."""
        states, split = output.view(-1, output.shape[-1]), self.current.split
        computed = states if split is None else split.restore(states)
        return (self.reuse.spread(name, computed) if self.reuse else computed).view(self.current.shape)


def _embed(convolution: Any, patches: Tensor) -> Tensor:
    """Convolve `patches`, each as large as the kernel, by a matrix product: many times faster on a CPU."""
    return F.linear(patches.flatten(1), convolution.weight.flatten(1), convolution.bias)


def _at(rotations: Rotation, rows: Tensor) -> Rotation:
    """The rotations of some rows, which ascend."""
    if rotations is None or len(rows) == len(rotations[0]):
        return rotations
    return rotations[0][rows], rotations[1][rows]


def _of_one_video(grids: Sequence[Grid]) -> Grid:
    """The grid of a pass that has slices of one video only, which some families count as images."""
    if len({(rows, columns) for _, rows, columns in grids}) > 1:
        raise ValueError("video=True is for passes of one video, whose frames are all of one size")
    return (sum(frames for frames, _, _ in grids), *grids[0][1:])
