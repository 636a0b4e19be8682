"""The model families that are known here: a file each, and all that differs between them is in it."""

from collections.abc import Mapping
from typing import TypeVar

from transformers import PreTrainedModel

from ipcv.encoders import Encoder
from ipcv.errors import ModelError
from ipcv.families import dinov2, internvl, qwen2_5_vl, qwen2_vl, qwen3_vl
from ipcv.families.family import Family, Language

Known = TypeVar("Known")

FAMILIES: dict[str, Family] = {  # by a configuration's `model_type`
    "qwen2_vl": qwen2_vl.FAMILY,
    "qwen2_5_vl": qwen2_5_vl.FAMILY,
    "qwen3_vl": qwen3_vl.FAMILY,
    "qwen3_vl_moe": qwen3_vl.FAMILY,
    "internvl": internvl.FAMILY,
    "dinov2": dinov2.FAMILY,
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
