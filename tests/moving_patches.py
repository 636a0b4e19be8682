"""Clips of random patches, some of which change over time, for every family with an encoder of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import oracle_reuse
import tiny
import torch
import torch.nn.functional as F
from family_cases import CASES, Case, FrameCase, StillCase
from oracle_styles import DinoEncoder
from probes import error
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ipcv import IPCV
from ipcv.families import find_encoder

SLICES = 6
THRESHOLD = 0.1
MODELS: dict[str, Any] = {}


class DinoCase(StillCase):
    """An encoder alone."""

    def encode(self, model: Any, grids: Any, seed: int = 0) -> Any:
        states = model(self.input(grids, seed)).last_hidden_state
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=states)


ENCODERS = {name: case for name, case in CASES.items() if not case.like and not name.endswith("moe")}
ENCODERS["dinov2"] = DinoCase(build=tiny.dinov2, encoder=DinoEncoder, one=[(1, 6, 6)], step=1)
WITH_CLS = ("internvl", "dinov2")


@dataclass(frozen=True)
class Family:
    """A family, a tiny model of it, and the size of a slice in patches."""

    name: str
    case: Case
    model: Any

    @classmethod
    def of(cls, name: str) -> "Family":
        if name not in MODELS:
            MODELS[name] = ENCODERS[name].build()
        return cls(name, ENCODERS[name], MODELS[name])

    @property
    def is_framed(self) -> bool:
        """Whether every slice is one frame, which may be an image."""
        return isinstance(self.case, StillCase)

    @property
    def size(self) -> tuple[int, int]:
        return self.case.one[0][1:] if self.is_framed else (4, 6)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Row and column of each patch of a slice, in the order of `patches`."""
        encoder = self.case.encoder(self.model, self.grids(1))
        return [place for token, place in enumerate(encoder.places) if token not in encoder.protected]

    @property
    def range(self) -> float:
        """From black to white."""
        return find_encoder(self.model).pixel_range

    def patches(self, slices: int, seed: int = 0) -> Tensor:
        """Random patches `[slices, patches, channels, frames, side, side]`."""
        rows, columns = self.size
        size = (slices, rows * columns, tiny.CHANNELS, self.case.step, tiny.PATCH, tiny.PATCH)
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))

    def pixels(self, patches: Tensor) -> Tensor:
        """The encoder's input that has these patches."""
        if not self.is_framed:
            return patches.flatten(0, 1).flatten(1)
        rows, columns = self.size
        squares = patches[:, :, :, 0].unflatten(1, (rows, columns))
        frames = squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        spare = self.case.input([(1, rows, columns)]).shape[-1] - frames.shape[-1]  # pixels behind the last patch
        return F.pad(frames, (0, spare, 0, spare), value=9.0)

    def grids(self, slices: int) -> list[tuple[int, int, int]]:
        return [(slices, *self.size)]

    def encode(self, patches: Tensor, grids: Any = None, model: Any = None) -> Any:
        """One pass."""
        given = self.pixels(patches)
        model = model or self.model
        case = self.case

        class Given(type(case)):  # type: ignore[misc]
            def input(self, *_: Any) -> Tensor:
                return given.to(model.dtype)

        values = {each.name: getattr(case, each.name) for each in fields(case)}
        return Given(**values).encode(model, grids or self.grids(len(patches)))

    def naive(self, patches: Tensor, grids: Any = None) -> Any:
        """The encoder written naively."""
        return self.case.encoder(self.model, grids or self.grids(len(patches)))

    def compare(self, got: Any, want: oracle_reuse.Result, naive: Any) -> None:
        """What the encoder gives is what the naive one does."""
        last = naive.last(want.tokens)
        assert error(got.last_hidden_state.reshape(last.shape), last) < 1e-5
        assert error(got.pooler_output.reshape(want.merged.shape), want.merged) < 1e-5
        taps = got.get("deepstack_features") or []
        assert len(taps) == len(want.taps)
        for tap, wanted in zip(taps, want.taps, strict=True):
            assert error(tap, wanted) < 1e-5

    @property
    def sees_each_slice_alone(self) -> bool:
        """Whether a pass that is not said to be of one video reuses nothing: its slices may be images."""
        return self.is_framed or isinstance(self.case, FrameCase)


def resized(family: Family, size: tuple[int, int]) -> Family:
    """The family with slices of another size in patches."""

    class Other(Family):
        @property
        def size(self) -> tuple[int, int]:
            return size

    return Other(family.name, family.case, family.model)


def changing(family: Family) -> Tensor:
    """A clip in which every rule of reuse has something to do; the changes are for a threshold of `THRESHOLD`.

    Every slice has a little noise. Up to slice 3, half of the patches in the upper half are new each time, and the one
    in the last corner drifts so slowly that it is to be computed in slice 3 only. In slice 2 all others of the lower
    half change by less than the threshold and more than its half, which counts for those next to a new one. Slice 4 is
    another scene; in slice 5 one colour of one pixel of one frame differs from it.
    """
    generator, random = torch.Generator().manual_seed(1), family.patches(SLICES, seed=2)
    rows, columns = family.size
    upper = [index for index, (row, _) in enumerate(family.places) if row < rows // 2]
    lower = [index for index, (row, _) in enumerate(family.places) if row >= rows // 2]
    corner = family.places.index((rows - 1, columns - 1))
    slices = [random[0]]
    for number in range(1, SLICES - 2):
        now = slices[-1].clone()
        if number == 2:
            now[lower] += 0.07 * family.range
        for index in torch.randperm(len(upper), generator=generator)[: len(upper) // 2].tolist():
            now[upper[index]] = random[number][upper[index]]
        now[corner] = random[0][corner] + 0.04 * number * family.range
        slices.append(now)
    slices += [random[-1], random[-1].clone()]
    slices[-1][3, 0, -1, 2, 1] += 0.25 * family.range
    noise = torch.rand(SLICES, *random[0].shape, generator=generator) - 0.5
    return torch.stack(slices) + 0.01 * family.range * noise


def still(family: Family, slices: int = SLICES) -> Tensor:
    """Equal slices."""
    return family.patches(1).expand(slices, -1, -1, -1, -1, -1).contiguous()


def passes(family: Family, clip: Tensor, compressor: IPCV, sizes: Sequence[int], **named: Any) -> tuple[list[Any], Any]:
    """The outputs of passes over so many slices each, and what the `with` collected."""
    with compressor(family.model, **named) as kept:
        return [family.encode(part) for part in clip.split(list(sizes))], kept


def counts(tensors: Sequence[Tensor]) -> list[list[int]]:
    return [each.tolist() for each in tensors]
