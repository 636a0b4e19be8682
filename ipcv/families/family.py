"""The fields in which model families differ: a family is one `Family`, filled in by its file."""

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
    """How the language model of a family is asked: the text of its prompt, and the tensors that its forward takes.

    The chat template writes a placeholder for a video. It is replaced by `introduction`, then by `frame_format` for
    each temporal patch, joined by `separator`, then by `ending`. For SmolVLM, with two frames:

        You are provided ... video.     introduction
        Frame from 00:00:<image>        frame_format
        Frame from 00:01:<image>        frame_format
                                        ending, two line feeds
    """

    placeholder: str  # text of the chat template for a video
    image_placeholder: str | None = "<|image_pad|>"  # text of the chat template for an image; None: images are refused
    template_kind: MediaKind = "video"  # kind of content that a video is passed to the chat template as
    chat_template: str | None = None  # the chat template for videos; None: the one in the model's files

    frame_format: str | None = None  # text of a temporal patch, see `frame_text`; None: the placeholder stays
    frame_formats: Mapping[str, str] = field(default_factory=dict)  # by the processor that the model's files name
    moment: Moment = "middle"  # the moment of a temporal patch that its text names
    separator: str = ""  # text between two temporal patches
    introduction: Callable[[int, float], str] | None = None  # text ahead: (number of temporal patches, seconds)
    ending: str = ""  # text behind the last temporal patch
    image_text: str | None = None  # text of an image; None: the placeholder stays
    visual_kind: MediaKind = "video"  # kind that the visual tokens of a video have in the prompt

    # (folder, configuration): how frames become the encoder's input
    settings: Callable[[Path, Any], FrameSettings] = lambda folder, _: PatchSettings.from_folder(folder)
    encode: Callable[[Any, Tensor, Grid], Visual]  # (model, encoder's input, its grid): one video through the encoder
    newline: Callable[[Any], Tensor] | None = None  # (model): an embedding [d] that follows the tokens of each video
    as_encoder_output: Callable[[Visual], Any]  # the tokens in the form in which the model's forward expects them
    positions: Callable[..., Tensor]  # (model, ids, types, spans): positions of the prompt's tokens
    position_masks: bool = False  # whether tokens attend within windows and pictures: see `ipcv.architecture.windows`
    unquantized: tuple[str, ...]  # names of modules that are never quantised
    vision: Callable[[Any], VisionShape]  # (configuration): the encoder's sizes
    decoder: Callable[[Any], TextShape] = TextShape.of  # (text configuration): the language model's sizes

    def video_text(self, times: Sequence[float], *, seconds: float | None = None, processor: str | None = None) -> str:
        """The text of a video in the prompt.

        `times` are those of its temporal patches, `seconds` is its length (None: up to the last of `times`), and
        `processor` the one that the model's files name.
        """
        if self.frame_format is None:
            return self.placeholder * (2 if self.newline else 1)
        texts = (self.frame_text(number, time, processor) for number, time in enumerate(times, 1))
        length = times[-1] if seconds is None else seconds
        introduction = self.introduction(len(times), length) if self.introduction else ""
        return introduction + self.separator.join(texts) + self.ending

    def frame_text(self, number: int, time: float, processor: str | None = None) -> str:
        """The text of a temporal patch: `frame_format` with its `number`, from 1, and its `time` in seconds filled in.

        The format may name `number`, `time`, `second` (whole) and `clock` (minutes and seconds).
        """
        form = self.frame_formats.get(processor or "", self.frame_format or self.placeholder)
        clock = f"{int(time // 60):02}:{int(time % 60):02}"
        return form.format(number=number, time=time, second=int(time), clock=clock)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family: its encoder, and its language model if it has one."""

    encoder: Callable[[Any], Encoder]  # (model): its vision encoder
    language: Language | None = None  # None: an encoder alone
    offers: frozenset[Need] = frozenset()  # what some compression methods need, and was tried with this family
