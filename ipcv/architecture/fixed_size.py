"""Frames resized to one fixed size and encoded each by itself, as InternVL and models with a SigLIP do."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ipcv.architecture.preprocess import check_normalising, normalised, normalising, read_settings
from ipcv.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class StillSettings:
    """How a model whose frames are all of one size resizes and normalises them, as its files say.

    Pixels behind the last whole patch of a row or column are not used.
    """

    height: int  # pixels
    width: int
    patch_size: int  # pixels per side
    merge_size: int  # patches per side that become one token
    image_mean: tuple[float, float, float]  # per channel, of 0 … 1
    image_std: tuple[float, float, float]
    rescale_factor: float = 1 / 255
    temporal_patch_size: int = 1  # frames per patch
    is_pooled: bool = False  # whether tokens may stand for fewer patches at the edges

    def __post_init__(self) -> None:
        check_normalising(self)
        patches = [side // self.patch_size for side in (self.height, self.width)]
        if min(patches) < 1 or (not self.is_pooled and any(count % self.merge_size for count in patches)):
            raise ValueError(f"{self.width} x {self.height} pixels do not divide into tokens of {self.factor} a side")

    @classmethod
    def from_folder(cls, folder: str | Path, vision: Any, *, merge: int, is_pooled: bool = False) -> Self:
        """The settings of a model folder; sizes are those in its encoder's configuration. Raises `ModelError`."""
        values, origin = read_settings(folder)
        try:
            (height, width), (side, _) = _pair(vision.image_size), _pair(vision.patch_size)
            return cls(
                height=height,
                width=width,
                patch_size=side,
                merge_size=merge,
                is_pooled=is_pooled,
                **normalising(values),
            )
        except KeyError as error:
            raise ModelError(f"{origin} lacks {error}: fetch the model again") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{origin} makes no sense: {error}") from error

    @property
    def factor(self) -> int:
        """Pixels per side of one token."""
        return self.patch_size * self.merge_size

    @property
    def min_pixels(self) -> int:
        """Pixels of every resized frame."""
        return self.height * self.width

    max_pixels = min_pixels

    def limited(self, max_pixels: int, *, strict: bool = True) -> Self:
        """These settings unchanged. Raises `ValueError`, if `strict`, where frames would have to be smaller."""
        if strict and max_pixels < self.max_pixels:
            raise ValueError(
                f"max_pixels must be {self.max_pixels} or more, not {max_pixels}: this model's frames are all of "
                f"{self.width} x {self.height}"
            )
        return self

    def sized(self, height: int, width: int) -> Self:  # noqa: ARG002
        """These settings unchanged: every frame has the one size."""
        return self

    def resize(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:  # noqa: ARG002
        """The one size, whatever size the frames have."""
        return self.height, self.width

    def tokens(self, height: int, width: int) -> int:
        """Visual tokens of a frame of this size."""
        rows, columns = (math.ceil(side // self.patch_size / self.merge_size) for side in (height, width))
        return rows * columns

    def patchify(self, frames: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Normalised pixels of `frames` (uint8 [n, height, width, 3]), on their device, and the grid.

        Returns float32 [n, 3, height, width] and (n, rows, columns) in patches.
        """
        count, height, width, _ = frames.shape
        if (height, width) != (self.height, self.width):
            raise ValueError(f"frames must be {self.height} x {self.width}, not {height} x {width}")
        pixels = normalised(self, frames).permute(0, 3, 1, 2).contiguous()
        return pixels, (count, height // self.patch_size, width // self.patch_size)


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size that may be written as one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
