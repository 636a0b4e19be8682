"""All that may differ between model families, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ipcv.architecture.encoder import Encoder
from ipcv.architecture.grids import Grid
from ipcv.architecture.preprocess import FrameSettings, PatchSettings
from ipcv.architecture.shapes import Need, TextShape, VisionShape
from ipcv.architecture.visual import Moment, Visual
from ipcv.media.frames import MediaKind


@dataclass(frozen=True, kw_only=True)
class Language:
    """How the models of a family are asked about a video: what they are given, and in which form."""

    placeholder: str  # what the chat template writes where a video goes
    called: MediaKind = "video"  # what the chat template is told that a video is: an image where it knows no videos
    frame: str | None = None  # what goes there, per temporal patch, with what `picture` fills in; None: the same
    frames: Mapping[str, str] = field(default_factory=dict)  # `frame` of models that name this processor in their files
    moment: Moment = "middle"  # of a temporal patch, whose time is given there
    between: str = ""  # and between two of those
    ahead: Callable[[int, float], str] | None = None  # what is ahead of those: (their number, the video's seconds)
    behind: str = ""  # and what behind them
    newline: Callable[[Any], Tensor] | None = None  # of a model: an embedding [d] behind those of a video's frames
    template: str | None = None  # the chat template for videos, where it is not the one in the model's files
    image: str | None = "<|image_pad|>"  # what the template writes where an image goes; None: not known how
    still: str | None = None  # what goes there; None: the same
    kind: MediaKind = "video"  # what the visual tokens pass for
    settings: Callable[[Path, Any], FrameSettings] = lambda folder, _: PatchSettings.from_folder(folder)  # of a config
    encode: Callable[[Any, Tensor, Grid], Visual]  # (model, that input, its grid)
    as_encoder_output: Callable[[Visual], Any]  # in place of the encoder's output in the model's own pass
    positions: Callable[..., Tensor]  # (model, ids, types, shown): of a prompt's tokens
    unquantized: tuple[str, ...]  # modules that are never quantised
    vision: Callable[[Any], VisionShape]  # the encoder's sizes, from the model's configuration
    decoder: Callable[[Any], TextShape] = TextShape.of  # the language model's sizes, from its own configuration
    position_masks: bool = False  # whether tokens attend within windows and pictures: see `ipcv.architecture.windows`

    def text(self, times: Sequence[float], *, seconds: float | None = None, processor: str | None = None) -> str:
        """What stands in the prompt for a video of so many `seconds` with temporal patches at `times`, in seconds.

        `processor` is the one that the model's files name.
        """
        if self.frame is None:
            return self.placeholder * (2 if self.newline else 1)
        pictures = (self.picture(number, time, processor) for number, time in enumerate(times, 1))
        ahead = self.ahead(len(times), times[-1] if seconds is None else seconds) if self.ahead else ""
        return ahead + self.between.join(pictures) + self.behind

    def picture(self, number: int, time: float, processor: str | None = None) -> str:
        """What stands there for a temporal patch with this `number`, from 1, at this `time` in seconds."""
        frame = self.frames.get(processor or "", self.frame or self.placeholder)
        clock = f"{int(time // 60):02}:{int(time % 60):02}"
        return frame.format(number=number, time=time, second=int(time), clock=clock)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a family."""

    encoder: Callable[[Any], Encoder]  # of a model
    language: Language | None = None  # None: an encoder alone
    offers: frozenset[Need] = frozenset()  # what some compression methods need, and was tried with this family
