"""IPCV as hooks on a vision encoder: settings, context manager, one state object per forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ipcv.architecture.encoder import Encoder, Rotation, rotate
from ipcv.architecture.grids import Grid
from ipcv.architecture.hooks import Handle, Override, installed
from ipcv.architecture.shapes import VisionShape
from ipcv.compression.compressors.compressor import Compressor, Kept
from ipcv.compression.compressors.ipcv_flops import pass_flops
from ipcv.compression.compressors.tensors.attention import attend
from ipcv.compression.compressors.tensors.features import describe
from ipcv.compression.compressors.tensors.packing import Division, PackedSegments, divide
from ipcv.compression.compressors.tensors.selection import Select, Stream, choose, sufficient
from ipcv.compression.compressors.tensors.tokens import Blend, Split, positions
from ipcv.compression.shares import kept_count
from ipcv.families import find_encoder


@dataclass(frozen=True, kw_only=True)
class IPCV(Compressor):
    """Training-free compression inside the vision encoder (arXiv 2512.18747), with a better choice of tokens.

    From block `layer` on, only the kept tokens are computed. The first `stabilize` of these blocks still attend to all
    tokens: the dropped ones are rebuilt from their nearest kept neighbours. After the last block every token is
    rebuilt, so that the encoder's output keeps its shape. Attention stays within frames or windows, as in the model.
    Each forward pass chooses once, among the tokens of all its frames. With `quality`, a pass keeps as many tokens as
    it needs: few of a still scene, more of a busy one. `IPCV.paper()` has the paper's settings.

    >>> with IPCV(keep=0.35)(model):
    ...     model.generate(**inputs)

    Raises `ValueError` for settings that make no sense (alone or for the model's depth) and when nothing would be
    kept, `ModelError` for an unsupported family.
    """

    name: ClassVar[str] = "ipcv"
    arxiv: ClassVar[str] = "2512.18747"
    departures: ClassVar[str] = (
        "coverage chooses tokens by how well they cover all others, weighs neighbours by distance and lets every later "
        "block attend to all tokens; IPCV.paper() has the paper's own rules"
    )
    presets: ClassVar[Mapping[str, str]] = {
        "paper": "queries and outputs of dropped tokens, which the paper's code computes and throws away, are left out"
    }

    keep: float | None = 0.35  # share of visual tokens the later blocks compute; None with `quality`
    quality: float | None = None  # in place of `keep`: an expected fidelity for which as few as needed are kept
    layer: int = 3  # first block that runs on kept tokens
    stabilize: int | Literal["all"] = "all"  # blocks whose attention still sees every token
    neighbors: int = 4  # kept tokens that rebuild a dropped one
    select: Select = "coverage"  # how the kept tokens are chosen
    blend: Blend = "distance"  # how neighbours are weighted

    @classmethod
    def paper(cls, **changes: Any) -> "IPCV":
        """As published (arXiv 2512.18747): keep the tokens that a block changed most.

        Any field can be changed by name.
        """
        paper = {"keep": 0.35, "layer": 3, "stabilize": 7, "neighbors": 10, "select": "change", "blend": "mean"}
        return cls(**{**paper, **changes})

    def __post_init__(self) -> None:
        if self.quality is not None:
            object.__setattr__(self, "keep", None)  # what is kept is not known yet
        elif self.keep is None or not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must be more than 0 and at most 1")
        if self.quality is not None and not 0 < self.quality < 1:
            raise ValueError(f"quality={self.quality} must be more than 0 and less than 1")
        if self.quality is not None and self.select != "coverage":
            raise ValueError(
                f"quality needs select='coverage', not {self.select!r}: it is judged by how well that covers"
            )
        if self.layer < 1:
            raise ValueError(f"layer={self.layer} must be at least 1: tokens are chosen by what the block before did")
        if not isinstance(self.stabilize, int) and self.stabilize != "all":
            raise ValueError(f"stabilize={self.stabilize!r} must be a number of blocks, or 'all'")
        if isinstance(self.stabilize, int) and self.stabilize < 0:
            raise ValueError(f"stabilize={self.stabilize} must not be negative")
        if self.neighbors < 1:
            raise ValueError(f"neighbors={self.neighbors} must be at least 1")
        if self.select not in get_args(Select):
            raise ValueError(f"select={self.select!r} is not known; known: {', '.join(get_args(Select))}")
        if self.blend not in get_args(Blend):
            raise ValueError(f"blend={self.blend!r} is not known; known: {', '.join(get_args(Blend))}")

    @contextmanager
    def __call__(self, model: PreTrainedModel) -> Iterator[Kept]:
        """Compress the encoder of `model` for the length of the `with`, as every `Compressor` does."""
        encoder = find_encoder(model)
        self._check_depth(len(encoder.blocks))
        hooks = _Hooks(self, encoder)
        with installed(hooks, encoder.blocks) if self.keep != 1 else nullcontext():
            yield hooks.kept

    def check(self, shape: VisionShape) -> None:
        """Raise `ValueError` if the encoder ends before `layer`."""
        self._check_depth(shape.blocks)

    def check_pass(self, shape: VisionShape, frames: Sequence[int]) -> None:  # noqa: ARG002 - any encoder
        """Raise `ValueError` if nothing would be kept of so many patches."""
        if self.keep and kept_count(sum(frames), self.keep) < 1:
            raise ValueError(f"keep={self.keep} of a batch of {sum(frames)} patches keeps none: raise keep")

    def flops(
        self, shape: VisionShape, frames: Sequence[int], kept: Sequence[int] = (), windows: Sequence[int] = ()
    ) -> int:
        """FLOPs of one compressed pass, choosing and rebuilding tokens included."""
        return pass_flops(shape, frames, self, kept, windows)

    def _check_depth(self, depth: int) -> None:
        if self.layer >= depth:
            raise ValueError(
                f"layer={self.layer} is past the encoder's last block: it has {depth}, from 0 to {depth - 1}"
            )

    @property
    def compares_features(self) -> bool:
        """Whether tokens are compared by features (`features.py`) and not, as in the paper, by plain states."""
        return self.select == "coverage" or self.blend == "distance"

    def stable(self, depth: int) -> int:
        """The number of blocks, in an encoder of `depth`, that compute kept tokens and attend to all."""
        later = depth - self.layer
        return later if isinstance(self.stabilize, str) else min(self.stabilize, later)


@dataclass
class _Pass:
    """The choice that one forward pass made at the pruning layer."""

    split: Split
    shape: torch.Size  # of all tokens, as the family's blocks take them
    divisions: Sequence[Division]  # into frames and, if the encoder has windows, into windows
    input: Tensor  # [k, d] kept tokens at the start of the block under way

    def division(self, bounds: Tensor | None) -> Division:
        """The division that a block attends within, found by the number of its `bounds`; None: frames."""
        count = self.divisions[0].whole.count if bounds is None else len(bounds) - 1
        return next(each for each in self.divisions if each.whole.count == count)


class _Hooks:
    """The hooks of one `with`, and the state of the pass under way: replaced whole by each pass."""

    def __init__(self, settings: IPCV, encoder: Encoder) -> None:
        self.settings = settings
        self.encoder = encoder
        self.blocks = encoder.blocks
        self.grids: Sequence[Grid]  # of the pass under way
        self.current: _Pass
        self.kept = Kept()

    def install(self) -> Iterator[Handle]:
        """Put the hooks on the blocks and take over their attention, one handle each."""
        first, last = self.settings.layer, self.settings.layer + self.settings.stable(len(self.blocks))
        yield self.encoder.patch_embedding.register_forward_pre_hook(self.begin, with_kwargs=True)
        yield self.blocks[first - 1].register_forward_hook(self.split)
        for number, block in enumerate(self.blocks[first:], first):
            yield block.register_forward_pre_hook(self.enter)
            attention = block.get_submodule(self.encoder.attention.module)
            yield Override(attention, partial(self.attend, block, everything=number < last))
        for number, merger in self.encoder.deepstack.items():
            if first - 1 <= number < len(self.blocks) - 1:
                yield merger.register_forward_pre_hook(self.feed_deepstack)
        # ahead of hooks of transformers' own, which hand on what a block gives
        yield self.blocks[-1].register_forward_hook(self.restore, prepend=True)

    def begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the blocks: read the size of each visual input."""
        self.grids = self.encoder.grids(*args, **kwargs)

    def split(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the last full block: choose the kept tokens, and hand on only these."""
        settings, encoder, device = self.settings, self.encoder, output.device
        before, states = (each.reshape(-1, output.shape[-1]) for each in (args[0], output))
        wholes = [PackedSegments.of(sizes, device) for sizes in encoder.divisions(self.grids)]
        frames = wholes[0]
        everything, order = torch.arange(len(states), device=device), encoder.order(self.grids, device)
        frame = frames.owner(everything)
        place = (everything if order is None else order) - frames.bounds[frame]
        patches = positions(place >= encoder.protected, len(states) - encoder.protected * frames.count)
        if settings.keep and kept_count(len(patches), settings.keep) < 1:
            raise ValueError(
                f"keep={settings.keep} of {len(patches)} visual tokens keeps none; raise keep or add frames"
            )
        own = states[patches]
        features = describe(own, self.grids, encoder.merge, order) if settings.compares_features else own
        stream = Stream(before[patches], own, features, frame[patches], place[patches])
        likeness = features if settings.blend == "distance" else own
        if settings.keep:
            chosen = choose(settings.select, stream, kept_count(len(patches), settings.keep))
        else:
            most, expected = sufficient(stream, settings.quality or 0.0)
            chosen = most.sort().values
            self.kept.quality.append(expected)
        split = Split.of(own, chosen, likeness, settings.neighbors, settings.blend).among(states, patches)
        divisions = divide(wholes, split.keep)
        self.kept.append(torch.tensor(divisions[-1].kept.lengths))
        self.current = _Pass(split, output.shape, divisions, split.kept)
        return self.shaped(split.kept)

    def shaped(self, kept: Tensor) -> Tensor:
        """Give kept tokens `[k, d]` the dimensions that the family's blocks take."""
        return kept.view(*(1,) * (len(self.current.shape) - 2), *kept.shape)

    def enter(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Before a later block: remember its input."""
        self.current.input = args[0].view(-1, args[0].shape[-1])

    def attend(self, block: nn.Module, /, *args: Any, everything: bool, **named: Any) -> Any:
        """Replace a block's attention: queries of the kept tokens, keys and values of all tokens or of the kept."""
        style, split = self.encoder.attention, self.current.split
        attention = block.get_submodule(style.module)
        normed: Tensor = args[0] if args else named["hidden_states"]
        queries = states = normed.view(-1, normed.shape[-1])
        if everything:
            states = split.join(queries, block.get_submodule(style.norm)(split.rebuild(self.current.input)))
        query, key, value = style.project(attention, queries, states)
        rotations: Rotation = named.get("position_embeddings")
        if rotations is not None:
            kept = (rotations[0][split.keep], rotations[1][split.keep])
            query, key = rotate(query, kept), rotate(key, rotations if everything else kept)
        division = self.current.division(named.get("cu_seqlens"))
        keys = division.whole if everything else division.kept
        mixed = attend(attention, (query, key, value), division.kept, keys, scale=getattr(attention, style.scale))
        return style.output(attention, self.shaped(mixed))

    def feed_deepstack(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Restore every token for DeepStack, which reads the output of a block."""
        return (self.restored(args[0]), *args[1:])

    def restore(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the last block: rebuild every token."""
        restored = self.restored(output)
        del self.current
        return restored

    def restored(self, output: Tensor) -> Tensor:
        """Rebuild every token from a block's `output`, which has the kept ones."""
        return self.current.split.restore(output.view(-1, output.shape[-1])).view(self.current.shape)
