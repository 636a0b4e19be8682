"""The device, dtype and quantisation that "auto" stands for on this machine."""

from typing import Literal

import torch
from transformers import PretrainedConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from ipcv.families import find_language

Quant = Literal["auto", "4bit", "8bit", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def find_device(device: str) -> torch.device:
    """The device that `device` names; "auto" is the accelerator, else the CPU. `ValueError` if it is not there."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not known: use auto, cpu, cuda, cuda:1, mps or xpu") from error
    if chosen.type != "cpu" and (accelerator is None or accelerator.type != chosen.type):
        present = accelerator or "no accelerator"
        raise ValueError(f"device {device!r} is not there: this machine has {present}; use auto")
    count = 1 if chosen.type == "cpu" else torch.accelerator.device_count()
    if chosen.index is not None and chosen.index >= count:
        raise ValueError(f"device {device!r} is not there: the last one is {chosen.type}:{count - 1}")
    return chosen


def _is_recent(device: torch.device) -> bool:
    """Whether a CUDA GPU computes in bfloat16 natively and can run flash attention: Ampere and later."""
    return torch.cuda.get_device_capability(device)[0] >= 8


def choose_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """The torch dtype for `device`; "auto" is float32 on the CPU, else bfloat16 where the device has it."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if device.type == "cuda" and not _is_recent(device) else torch.bfloat16


def prequantized(config: PretrainedConfig) -> str | None:
    """The method by which a checkpoint's own weights are quantised, or None."""
    settings = getattr(config, "quantization_config", None)
    return None if settings is None else str(settings.get("quant_method", "yes"))


def choose_quantization(quant: Quant, device: torch.device, config: PretrainedConfig) -> Literal["4bit", "8bit"] | None:
    """The quantisation for `device`; "auto" is 4 bits on CUDA and XPU. `ValueError` for weights that are quantised."""
    if already := prequantized(config):
        if quant in ("4bit", "8bit"):
            raise ValueError(f'this model\'s weights are quantised already ({already}): use `quant="auto"`')
        return None
    if quant == "auto":
        return "4bit" if device.type in ("cuda", "xpu") else None
    return None if quant == "none" else quant


def can_flash(family: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether flash attention runs on `device` and suits the family: it takes no masks by position."""
    if device.type != "cuda" or dtype == torch.float32 or find_language(family).position_masks:
        return False
    return _is_recent(device) and is_flash_attn_2_available()
