"""Frames become the normalised patches that a Qwen-family vision encoder takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ipcv.errors import ModelError, VideoError
from ipcv.files import parse_json

# where a model folder keeps its settings, the video's own first; the second part is the section inside the file
_FILES = (
    ("video_preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("preprocessor_config.json", None),
    ("processor_config.json", "image_processor"),
)
OF_CLIPS = ("Qwen3VLVideoProcessor", "Glm4v", "Glm46V")  # their pixel limits are for all frames together
_LONGEST = 200  # Qwen's limit on how many times longer than wide a frame may be


class FrameSettings(Protocol):
    """How the frames of a model are resized and cut into patches; each family has a class of its own for it."""

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""

    @property
    def temporal_patch_size(self) -> int:
        """Frames per patch."""

    @property
    def factor(self) -> int:
        """Pixels per side of one token."""

    @property
    def min_pixels(self) -> int:
        """Fewest pixels of a resized frame."""

    @property
    def max_pixels(self) -> int:
        """Most pixels of a resized frame."""

    def limited(self, max_pixels: int, *, strict: bool = True) -> Self:
        """These settings with at most `max_pixels` per frame. Raises `ValueError`, if `strict`, if it cannot."""

    def sized(self, height: int, width: int) -> Self:
        """These settings for frames that have this size already and keep it."""

    def resize(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:
        """Height and width after resizing, for a clip of `frames` frames of this size."""

    def tokens(self, height: int, width: int) -> int:
        """Visual tokens of a temporal patch of this size, after resizing."""

    def patchify(self, frames: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Encoder input for `frames` (uint8 [n, height, width, 3]), and its grid of patches (t, rows, columns)."""


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """How a Qwen-family model resizes and cuts frames, as its files say. The defaults are Qwen2-VL's."""

    patch_size: int = 14  # pixels per side
    temporal_patch_size: int = 2  # frames per patch
    merge_size: int = 2  # patches per side that become one token
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # per channel, of 0 … 1
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    rescale_factor: float = 1 / 255
    min_pixels: int = 56 * 56  # per frame; smaller frames are enlarged
    max_pixels: int = 16384 * 28 * 28  # per frame; larger frames are shrunk
    clip_pixels: tuple[int, int] | None = None  # fewest and most of all frames together (Qwen3-VL); None: no limits

    def __post_init__(self) -> None:
        for name in ("patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
        check_normalising(self)
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) must not exceed max_pixels ({self.max_pixels})")

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """The settings of a model folder; video settings are preferred to those for images. Raises `ModelError`."""
        values, origin = read_settings(folder)
        return cls.from_dict(values, origin=origin)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, origin: str = "the preprocessor config") -> Self:
        """The settings of one config, in either style of pixel limits. Raises `ModelError` naming `origin`."""
        try:
            return cls(
                **cls._limits(values),
                patch_size=values["patch_size"],
                temporal_patch_size=values["temporal_patch_size"],
                merge_size=values["merge_size"],
                **normalising(values),
            )
        except KeyError as error:
            raise ModelError(f"{origin} lacks {error}: give the folder of a complete model") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{origin} makes no sense: {error}") from error

    @staticmethod
    def _limits(values: Mapping[str, Any]) -> dict[str, Any]:
        size = values.get("size") or {}
        lowest = _first(values.get("min_pixels"), size.get("shortest_edge"), size.get("min_pixels"))
        highest = _first(values.get("max_pixels"), size.get("longest_edge"), size.get("max_pixels"))
        kind = values.get("video_processor_type") or values.get("image_processor_type") or ""
        if not kind.startswith(OF_CLIPS):
            return {"min_pixels": lowest, "max_pixels": highest}
        smallest, frames = (values["patch_size"] * values["merge_size"]) ** 2, values["temporal_patch_size"]
        return {"min_pixels": smallest, "max_pixels": highest // frames, "clip_pixels": (lowest, highest)}

    @property
    def factor(self) -> int:
        """Pixels per side of one token: both sides of a resized frame are multiples of this."""
        return self.patch_size * self.merge_size

    def limited(self, max_pixels: int, *, strict: bool = True) -> Self:
        """These settings with at most `max_pixels` per frame.

        Outside the model's own limits, `strict` raises `ValueError`; otherwise the nearest limit counts.
        """
        lowest = max(self.min_pixels, self.factor**2)
        if strict and not lowest <= max_pixels <= self.max_pixels:
            raise ValueError(f"max_pixels must be {lowest} to {self.max_pixels} for this model, not {max_pixels}")
        return replace(self, max_pixels=min(max(max_pixels, lowest), self.max_pixels))

    def sized(self, height: int, width: int) -> Self:
        """These settings for frames that have this size already and keep it."""
        return replace(self, min_pixels=1, max_pixels=height * width, clip_pixels=None)

    def resize(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:
        """Qwen's rule: the nearest multiples of `factor`, shrunk or enlarged in proportion into the pixel limits.

        `frames` is their number in the clip. Raises `VideoError` for a frame more than 200 times as long as wide.
        """
        if self.clip_pixels and min(height, width) < self.factor:
            scale = self.factor / min(height, width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) > _LONGEST * min(height, width):
            raise VideoError(
                f"the picture of {width} x {height} pixels is more than {_LONGEST} times longer than wide: crop it"
            )
        rows, columns = (round(side / self.factor) for side in (height, width))  # in tokens
        pixels = rows * columns * self.factor**2
        lowest, highest = self._limits_of(frames)
        if highest[0] * pixels > highest[1]:
            scale = math.sqrt(highest[0] * height * width / highest[1])
            rows, columns = (max(1, math.floor(side / scale / self.factor)) for side in (height, width))
        elif lowest[0] * pixels < lowest[1]:
            scale = math.sqrt(lowest[1] / (lowest[0] * height * width))
            rows, columns = (math.ceil(side * scale / self.factor) for side in (height, width))
        return rows * self.factor, columns * self.factor

    def tokens(self, height: int, width: int) -> int:
        """Visual tokens of a temporal patch of this size, after resizing."""
        return height * width // self.factor**2

    def _limits_of(self, frames: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The lower and the upper limit for a clip of so many frames: for each, a number of frames and their pixels."""
        if not self.clip_pixels:
            return (1, self.min_pixels), (1, self.max_pixels)
        lowest, highest = (frames, self.clip_pixels[0]), (frames, self.clip_pixels[1])
        return lowest, min(highest, (1, self.max_pixels), key=lambda limit: limit[1] / limit[0])

    def patchify(self, frames: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Normalised patches of `frames` (uint8 [n, height, width, 3]), on their device, and the grid.

        Returns float32 [t·rows·columns, 3·temporal_patch_size·patch_size²] and (t, rows, columns) in patches. The
        patches of one token are neighbours: temporal patch, token row, token column, row and column in the token.
        """
        count, height, width, _ = frames.shape
        if count % self.temporal_patch_size or height % self.factor or width % self.factor:
            raise ValueError(
                f"{count} frames of {height} x {width} do not divide into patches of "
                f"{self.temporal_patch_size} frames and tokens of {self.factor} x {self.factor} pixels"
            )
        values = normalised(self, frames)
        time, merge, side = self.temporal_patch_size, self.merge_size, self.patch_size
        rows, columns = height // side, width // side
        split = values.view(-1, time, rows // merge, merge, side, columns // merge, merge, side, 3)
        ordered = split.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)  # t, token row and column, row and column in it, C, T, h, w
        return ordered.reshape(-1, 3 * time * side * side), (count // time, rows, columns)


def read_settings(folder: str | Path) -> tuple[Any, str]:
    """The preprocessing settings in a model folder, and the file that has them. Raises `ModelError`."""
    for name, section in _FILES:
        path = Path(folder) / name
        if path.is_file():
            try:
                values = parse_json(path.read_bytes())
            except (OSError, ValueError) as error:
                raise ModelError(f"{path} cannot be read ({error}): fetch the model again") from error
            if section is None or section in values:
                return values if section is None else values[section], str(path)
    raise ModelError(f"{folder} has no preprocessor_config.json: give the folder of a complete model")


def check_normalising(settings: Any) -> None:
    """Raise `ValueError` unless the mean, the deviation and the factor of `settings` are usable numbers."""
    for name, lowest in (("image_mean", -math.inf), ("image_std", 0.0)):
        value = getattr(settings, name)
        if len(value) != 3 or not all(_is_number(part) and part > lowest for part in value):
            raise ValueError(f"{name} must be three numbers{' above 0' if lowest == 0 else ''}, not {value!r}")
    if not _is_number(settings.rescale_factor) or settings.rescale_factor <= 0:
        raise ValueError(f"rescale_factor must be a number above 0, not {settings.rescale_factor!r}")


def normalising(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mean, the deviation and the factor in a config; neutral ones if it is off. Raises `KeyError`."""
    is_on = values.get("do_normalize", True)
    return {
        "image_mean": tuple(values["image_mean"]) if is_on else (0.0, 0.0, 0.0),
        "image_std": tuple(values["image_std"]) if is_on else (1.0, 1.0, 1.0),
        "rescale_factor": values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0,
    }


def normalised(settings: Any, frames: Tensor) -> Tensor:
    """`frames` (uint8, channels last) as float32: rescaled, less the mean, divided by the deviation of `settings`."""
    mean, std = (torch.tensor(part, device=frames.device) for part in (settings.image_mean, settings.image_std))
    return (frames * (settings.rescale_factor / std)).sub_(mean / std)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _first(*values: int | None) -> int:
    """The first value that is not None. Raises `ValueError` if all are."""
    for value in values:
        if value is not None:
            return value
    raise ValueError("it has no min_pixels and max_pixels, nor a size with shortest_edge and longest_edge")
