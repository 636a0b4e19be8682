"""What the encoder makes of a video, and the form in which a model's own forward pass takes it back."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ipcv.grids import Grid
from ipcv.probe import Kind


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A video or an image that a prompt is about."""

    kind: Kind
    grid: Grid  # temporal patches, rows and columns of patches
    times: tuple[float, ...]  # of the frames, in seconds
    tokens: int  # visual, in all

    @property
    def middles(self) -> list[float]:
        """The time of each temporal patch: halfway from its first frame to its last."""
        step = len(self.times) // self.grid[0]
        return [(self.times[at] + self.times[at + step - 1]) / 2 for at in range(0, len(self.times), step)]


@dataclass(frozen=True, eq=False)
class Visual:
    """Visual tokens for the language model."""

    tokens: Tensor  # [n, d] embeddings
    taps: Tensor  # [t, n, d] what is added to them behind each of the first t decoder layers (DeepStack); t may be 0

    @classmethod
    def cat(cls, parts: "list[Visual]") -> "Visual":
        """The tokens of all `parts`, one after the other."""
        return cls(torch.cat([part.tokens for part in parts]), torch.cat([part.taps for part in parts], dim=1))

    def __getitem__(self, rows: Tensor) -> "Visual":
        """Only some of the tokens."""
        return Visual(self.tokens[rows], self.taps[:, rows])

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Visual":
        """The same on a device."""
        return Visual(self.tokens.to(device), self.taps.to(device))


def of_video(model: Any, patches: Tensor, grid: Grid) -> Visual:
    """One video through the encoder of a Qwen model."""
    output = model.get_video_features(patches, video_grid_thw=torch.tensor([grid], device=patches.device))
    tokens = output.pooler_output[0]
    taps = [each[0] for each in output.get("deepstack_features") or ()]
    return Visual(tokens, torch.stack(taps) if taps else tokens.new_empty(0, *tokens.shape))


def as_video(visual: Visual) -> Any:
    """As the output of that encoder."""
    return SimpleNamespace(pooler_output=[visual.tokens], deepstack_features=[[each] for each in visual.taps])


def of_frames(model: Any, pixels: Tensor, _: Grid) -> Visual:
    """Frames `[n, 3, height, width]` through the encoder of an InternVL."""
    tokens = model.get_image_features(pixels).pooler_output.flatten(0, 1)
    return Visual(tokens, tokens.new_empty(0, *tokens.shape))


def as_frames(visual: Visual) -> Any:
    """As the output of that encoder."""
    return SimpleNamespace(pooler_output=visual.tokens[None])
