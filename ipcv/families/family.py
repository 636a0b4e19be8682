"""All that may differ between model families, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ipcv.encoders import Encoder
from ipcv.grids import Grid
from ipcv.preprocess import FrameSettings, PatchSettings
from ipcv.shapes import TextShape, VisionShape
from ipcv.visual import Visual


@dataclass(frozen=True, kw_only=True)
class Language:
    """How the models of a family are asked about a video: what they are given, and in which form."""

    placeholder: str  # what the chat template writes where a video goes
    frame: str | None = None  # what goes there, per temporal patch, with {number}, {time} and {second}; None: the same
    frames: Mapping[str, str] = field(default_factory=dict)  # `frame` of models that name this processor in their files
    between: str = ""  # and between two of those
    moment: Literal["middle", "start"] = "middle"  # of a temporal patch, whose time is given there
    image: str | None = "<|image_pad|>"  # what the template writes where an image goes; None: not known how
    kind: Literal["image", "video"] = "video"  # what the visual tokens pass for
    settings: Callable[[Path, Any], FrameSettings] = lambda folder, _: PatchSettings.from_folder(folder)  # of a config
    encode: Callable[[Any, Tensor, Grid], Visual]  # (model, that input, its grid)
    taken: Callable[[Visual], Any]  # in place of the encoder's output in the model's own pass
    positions: Callable[..., Tensor]  # (model, ids, types, shown): of a prompt's tokens
    whole: tuple[str, ...]  # modules that are never quantised
    vision: Callable[[Any], VisionShape]  # the encoder's sizes, from the model's configuration
    decoder: Callable[[Any], TextShape] = TextShape.of  # the language model's sizes, from its own configuration

    def text(self, times: Sequence[float], processor: str | None = None) -> str:
        """What stands in the prompt for a video with temporal patches at `times`, in seconds."""
        if self.frame is None:
            return self.placeholder
        pictures = (self.picture(number, time, processor) for number, time in enumerate(times, 1))
        return self.between.join(pictures)

    def picture(self, number: int, time: float, processor: str | None = None) -> str:
        """What stands there for a temporal patch with this `number`, from 1, at this `time` in seconds.

        `processor` is the one that the model's files name.
        """
        frame = self.frames.get(processor or "", self.frame or self.placeholder)
        return frame.format(number=number, time=time, second=int(time))


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a family."""

    encoder: Callable[[Any], Encoder]  # of a model
    language: Language | None = None  # None: an encoder alone
