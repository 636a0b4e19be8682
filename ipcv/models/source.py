"""A model's address: its name, where it comes from, and how it is held in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import PretrainedConfig

from ipcv.errors import ModelError
from ipcv.models.guard.config import safe_config
from ipcv.models.guard.folder import CONFIG, check_folder
from ipcv.models.hub import DEFAULT_MODEL, DEMO, find_folder
from ipcv.models.placement import Dtype, Quant, choose_dtype, choose_quantization, find_device, prequantized

WHAT_WORKS = f"give the folder of a complete model, a hub name such as {DEFAULT_MODEL}, or {DEMO!r}"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model's address. `ipcv.load` explains the values of each field.

    >>> load(ModelSource(name="demo", device="cpu")).ask("clip.mp4", "What colour is the circle?")

    Raises `ValueError` for a `dtype` or `quant` that is not known.
    """

    name: str = DEFAULT_MODEL  # "demo", a folder, or a repository on the Hugging Face hub
    revision: str | None = None  # branch, tag or commit on the hub; None: the main branch
    offline: bool = False  # make no network call
    device: str = "auto"
    dtype: Dtype = "auto"
    quant: Quant = "auto"
    fit: bool = False  # quantise, and lower options, as far as the free memory needs it when the model is loaded

    def __post_init__(self) -> None:
        for field, value, known in (("dtype", self.dtype, Dtype), ("quant", self.quant, Quant)):
            if value not in get_args(known):
                raise ValueError(f"{field} {value!r} is not known: use {', '.join(get_args(known))}")

    @classmethod
    def of(cls, name: "str | ModelSource", **fields: Any) -> "ModelSource":
        """An address of a `name` and `fields`; a whole address in place of the name is returned as it is.

        Raises `ValueError` for fields beside a whole address.
        """
        if isinstance(name, str):
            return cls(name=name, **fields)
        if cls(**fields) != cls():
            raise ValueError(f"a ModelSource holds {', '.join(fields)} itself: set them there")
        return name

    @property
    def leaves_quantization_open(self) -> bool:
        """Whether the memory that is free decides how the weights are quantised."""
        return self.fit and self.quant == "auto"

    def resolve(self) -> "ResolvedModel":
        """Fetch the model if need be, and settle what "auto" stands for. Nothing of `fit` is settled.

        Raises `ModelError` if the model cannot be had or is of an unsupported family, `ValueError` for a device that
        is not there and for a quantisation that the weights cannot have.
        """
        device = find_device(self.device)
        dtype = choose_dtype(self.dtype, device)
        folder = find_folder(self.name, revision=self.revision, offline=self.offline)
        config, warnings = _read_config(folder)
        quantize = choose_quantization(self.quant, device, config)
        return ResolvedModel(
            folder=folder, config=config, device=device, dtype=dtype, quantize=quantize, warnings=warnings
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model's folder on this machine, and how its weights are going to be held."""

    folder: Path
    config: PretrainedConfig
    device: torch.device
    dtype: torch.dtype
    quantize: Literal["4bit", "8bit"] | None  # done while the weights are read
    warnings: tuple[str, ...] = ()  # of what was left out of the configuration

    @property
    def commit(self) -> str | None:
        """The commit of the hub's repository, if the model came from there."""
        return self.folder.name if self.folder.parent.name == "snapshots" else None

    @property
    def dtype_name(self) -> str:
        """The name of the dtype, as in "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def quantization(self) -> str | None:
        """How the language model's linear layers are quantised: while they are read, or in the checkpoint."""
        return self.quantize or prequantized(self.config)


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of the model in `folder`. Raises `ModelError` if there is none, or of another family."""
    return _read_config(folder)[0]


def _read_config(folder: Path) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """The configuration, and warnings of what was left out of it."""
    check_folder(folder)
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{str(folder)!r} holds no model ({CONFIG}); {WHAT_WORKS}")
    return safe_config(folder / CONFIG)
