"""The model families as data, one file each: all that differs between them."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from transformers import PreTrainedModel

from ipcv.architecture.encoder import Encoder
from ipcv.architecture.shapes import NEEDS, Need
from ipcv.errors import ModelError
from ipcv.families import (
    dinov2,
    gemma3,
    glm4v,
    internvl,
    llava_onevision,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_5,
    qwen3_vl,
    smolvlm,
)
from ipcv.families.family import Family, Language

Known = TypeVar("Known")

FAMILIES: dict[str, Family] = {  # by a configuration's `model_type`
    "qwen2_vl": qwen2_vl.FAMILY,
    "qwen2_5_vl": qwen2_5_vl.FAMILY,
    "qwen3_vl": qwen3_vl.FAMILY,
    "qwen3_vl_moe": qwen3_vl.FAMILY,
    "qwen3_5": qwen3_5.FAMILY,
    "qwen3_5_moe": qwen3_5.FAMILY,
    "internvl": internvl.FAMILY,
    "glm4v": glm4v.FAMILY,
    "glm4v_moe": glm4v.FAMILY,
    "glm46v": glm4v.GLM46V,
    "gemma3": gemma3.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "smolvlm": smolvlm.FAMILY,
    "dinov2": dinov2.FAMILY,
}

REFUSED: dict[str, str] = {  # why a family that others know how to ask is not here
    "gemma3_text": "this size has no vision encoder; Gemma 3 has one from 4B on",
    "gemma3n": "its vision encoder is made of convolutions, between which there are no tokens to leave out",
    "gemma4": "its encoder's positions, and decoder layers that share keys or get embeddings, are not written here",
    "gemma4_unified": "it has no vision encoder: patches go straight into the language model",
}


def find_encoder(model: PreTrainedModel) -> Encoder:
    """The vision encoder of `model`. Raises `ModelError` for a family that is not supported, naming those that are."""
    encoders = {name: family.encoder for name, family in FAMILIES.items()}
    return _known(model.config.model_type, encoders, "its encoder's layout is not known here")(model)


def find_language(family: str) -> Language:
    """How models of `family` (a config's `model_type`) are asked, else `ModelError` with those that can be."""
    languages = {name: each.language for name, each in FAMILIES.items() if each.language}
    return _known(family, languages, "it is not known here how it answers")


def check_needs(method: str, needs: Collection[Need], family: str) -> None:
    """Raise `ModelError` if `family` lacks what the compression `method` needs, naming the families that have it.

    A need that no family lists depends on a model's layers: the method's own `check` looks at these.
    """
    for need in needs:
        able = sorted(name for name, each in FAMILIES.items() if need in each.offers)
        if able and family not in able:
            raise ModelError(
                f"{method} is not supported in model family {family!r}: it needs {NEEDS[need]}, and was tried with "
                f"such families only; supported: {', '.join(able)}"
            )


def _known(family: str, among: Mapping[str, Known], why: str) -> Known:
    if family not in among:
        why = REFUSED.get(family, why)
        raise ModelError(f"model family {family!r} is not supported: {why}; supported: {', '.join(sorted(among))}")
    return among[family]
