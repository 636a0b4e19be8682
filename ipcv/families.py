"""The model families that are known here: one entry each, and all that differs between them is in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor
from transformers import PreTrainedModel

from ipcv import encoders, positions, shapes, visual
from ipcv.encoders import Encoder
from ipcv.errors import ModelError
from ipcv.grids import Grid
from ipcv.preprocess import FrameSettings, PatchSettings
from ipcv.stills import StillSettings
from ipcv.visual import Visual

Known = TypeVar("Known")


@dataclass(frozen=True, kw_only=True)
class Language:
    """How the models of a family are asked about a video: what they are given, and in which form."""

    placeholder: str  # what the chat template writes where a video goes
    frame: str | None = None  # what goes there, per temporal patch, with {number} from 1 and {time}; None: the same
    between: str = ""  # and between two of those
    image: str | None = "<|image_pad|>"  # what the template writes where an image goes; None: not known how
    kind: Literal["image", "video"] = "video"  # what the visual tokens pass for
    settings: Callable[[Path, Any], FrameSettings] = lambda folder, _: PatchSettings.from_folder(folder)  # of a config
    encode: Callable[[Any, Tensor, Grid], Visual] = visual.of_video  # (model, that input, its grid)
    taken: Callable[[Visual], Any] = visual.as_video  # in place of the encoder's output in the model's own pass
    positions: Callable[..., Tensor] = positions.of_grid  # (model, ids, types, shown): of a prompt's tokens
    whole: tuple[str, ...] = ("model.visual", "lm_head")  # modules that are never quantised
    vision: Callable[[Any], shapes.VisionShape]  # the encoder's sizes, from the model's configuration

    def text(self, times: Sequence[float]) -> str:
        """What stands in the prompt for a video with temporal patches at `times`, in seconds."""
        if self.frame is None:
            return self.placeholder
        return self.between.join(
            self.frame.format(number=number, time=time) for number, time in zip(count(1), times, strict=False)
        )


@dataclass(frozen=True)
class Family:
    """What is known of a family."""

    encoder: Callable[[Any], Encoder]  # of a model
    language: Language | None = None  # None: an encoder alone


# Every temporal patch stands behind its time, in a frame of its own. transformers from 5 on, and not the version that
# the models came out with, leaves the chat template's frame around all of them.
_FRAME = "<|vision_start|><|video_pad|><|vision_end|>"
QWEN3_VL = Language(placeholder=_FRAME, frame="<{time:.1f} seconds>" + _FRAME, vision=shapes.qwen3_vl)

FAMILIES = {
    "qwen2_vl": Family(encoders.qwen2_vl, Language(placeholder="<|video_pad|>", vision=shapes.qwen2_vl)),
    "qwen2_5_vl": Family(
        encoders.qwen2_5_vl,
        Language(placeholder="<|video_pad|>", positions=positions.of_timed_grid, vision=shapes.qwen2_5_vl),
    ),
    "qwen3_vl": Family(encoders.qwen3_vl, QWEN3_VL),
    "qwen3_vl_moe": Family(encoders.qwen3_vl, QWEN3_VL),
    "internvl": Family(
        encoders.internvl,
        Language(
            placeholder="<video>",
            image=None,
            frame="Frame{number}: <img><IMG_CONTEXT></img>",
            between="\n",
            kind="image",
            settings=StillSettings.from_folder,
            encode=visual.of_frames,
            taken=visual.as_frames,
            positions=positions.of_text,
            whole=("model.vision_tower", "model.multi_modal_projector", "lm_head"),
            vision=shapes.internvl,
        ),
    ),
    "dinov2": Family(encoders.dinov2),
}


def find_encoder(model: PreTrainedModel) -> Encoder:
    """The vision encoder of `model`. Raises `ModelError` for a family that is not supported, naming those that are."""
    encoders = {name: family.encoder for name, family in FAMILIES.items()}
    return _known(model.config.model_type, encoders, "its encoder's layout is not known here")(model)


def find_language(family: str) -> Language:
    """How models of `family` (a config's `model_type`) are asked, else `ModelError` with those that can be."""
    languages = {name: each.language for name, each in FAMILIES.items() if each.language}
    return _known(family, languages, "it is not known here how it answers")


def _known(family: str, among: Mapping[str, Known], why: str) -> Known:
    if family not in among:
        raise ModelError(f"model family {family!r} is not supported: {why}; supported: {', '.join(sorted(among))}")
    return among[family]
