"""All that may differ between model families, as data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ipcv.encoders import Encoder
from ipcv.grids import Grid
from ipcv.preprocess import FrameSettings, PatchSettings
from ipcv.shapes import VisionShape
from ipcv.visual import Visual


@dataclass(frozen=True, kw_only=True)
class Language:
    """How the models of a family are asked about a video: what they are given, and in which form."""

    placeholder: str  # what the chat template writes where a video goes
    frame: str | None = None  # what goes there, per temporal patch, with {number} from 1 and {time}; None: the same
    between: str = ""  # and between two of those
    image: str | None = "<|image_pad|>"  # what the template writes where an image goes; None: not known how
    kind: Literal["image", "video"] = "video"  # what the visual tokens pass for
    settings: Callable[[Path, Any], FrameSettings] = lambda folder, _: PatchSettings.from_folder(folder)  # of a config
    encode: Callable[[Any, Tensor, Grid], Visual]  # (model, that input, its grid)
    taken: Callable[[Visual], Any]  # in place of the encoder's output in the model's own pass
    positions: Callable[..., Tensor]  # (model, ids, types, shown): of a prompt's tokens
    whole: tuple[str, ...]  # modules that are never quantised
    vision: Callable[[Any], VisionShape]  # the encoder's sizes, from the model's configuration

    def text(self, times: Sequence[float]) -> str:
        """What stands in the prompt for a video with temporal patches at `times`, in seconds."""
        if self.frame is None:
            return self.placeholder
        return self.between.join(
            self.frame.format(number=number, time=time) for number, time in zip(count(1), times, strict=False)
        )


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a family."""

    encoder: Callable[[Any], Encoder]  # of a model
    language: Language | None = None  # None: an encoder alone
