"""Read a model's weights onto its device, tensor by tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)

from ipcv.errors import MemoryExhaustedError, ModelError, first_line, memory_errors
from ipcv.families import find_language
from ipcv.models.guard.folder import read_json, weight_files
from ipcv.models.placement import can_flash, prequantized
from ipcv.models.source import WHAT_WORKS, ResolvedModel
from ipcv.text import shown

_AS_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def read_weights(found: ResolvedModel) -> PreTrainedModel:
    """The network with its weights, ready to answer.

    Raises `ModelError` if they cannot be read or are not all there, `MemoryExhaustedError` if they do not fit.
    """
    folder = found.folder
    names = weight_files(folder)
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{str(folder)!r} holds no weights ({absent[0]}); {WHAT_WORKS}")
    try:
        with memory_errors(
            f"the model in {str(folder)!r} does not fit into the memory of {found.device}: "
            'try `quant="4bit"` or a smaller model'
        ):
            network, report = _read(found, [folder / name for name in names])
    except (MemoryExhaustedError, ModelError):
        raise
    except Exception as error:  # a configuration may be wrong in every way there is
        if "ignore_mismatched_sizes" in str(error):  # transformers names no tensor
            why = "have other shapes than its config.json says: fetch the model again"
            raise ModelError(f"the weights in {str(folder)!r} {why}") from error
        raise ModelError(f"cannot load the model in {str(folder)!r}: {first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place
        count = f"{len(missing)} tensors, {missing[0]} first"
        raise ModelError(f"the weights in {str(folder)!r} lack {count}: fetch the model again")
    return network.eval()


def _read(found: ResolvedModel, paths: list[Path]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The network, and transformers' report on its weights."""
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(found.config)]
    options = _options(found)
    if prequantized(found.config):  # some methods look into the files themselves
        loaded = kind.from_pretrained(found.folder, **options)
    else:
        with _slices(paths, found.dtype) as tensors:
            loaded = kind.from_pretrained(None, state_dict=tensors, **options)
    network, report = loaded
    if (path := found.folder / "generation_config.json").is_file():
        network.generation_config = _generation(path)
    return network, report


def _generation(path: Path) -> GenerationConfig:
    """The settings of generation in the file `path` that an answer goes by; others are not read.

    Raises `ModelError` if they make no sense.
    """
    values = read_json(path)
    ends, penalty = values.get("eos_token_id"), values.get("repetition_penalty")
    if ends is not None and not all(isinstance(each, int) for each in (ends if isinstance(ends, list) else [ends])):
        raise ModelError(f"{shown(path)} makes no sense: eos_token_id is {ends!r}; fetch the model again")
    if penalty is not None and not (isinstance(penalty, int | float) and penalty > 0):
        raise ModelError(f"{shown(path)} makes no sense: repetition_penalty is {penalty!r}; fetch the model again")
    return GenerationConfig(eos_token_id=ends, repetition_penalty=penalty)


@contextmanager
def _slices(paths: list[Path], dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """The tensors of weight files by name, each read when transformers comes to it.

    Tensors that are converted to `dtype` are read into memory, so that they are there once, and not in the mapped file
    as well. The others stay in the mapped file, which is only read where it is used.
    """
    mapped = [safe_open(path, "pt", backend="mmap") for path in paths]
    read = [safe_open(path, "pt", backend="pread") for path in paths]
    tensors = {}
    for by_map, by_read in zip(mapped, read, strict=True):
        for name in by_map.keys():  # noqa: SIM118 - it is no dict
            stays = _AS_STORED.get(by_map.get_slice(name).get_dtype()) == dtype
            tensors[name] = (by_map if stays else by_read).get_slice(name)
    yield tensors


def _options(found: ResolvedModel) -> dict[str, Any]:
    """Arguments of `from_pretrained`."""
    options: dict[str, Any] = {
        "config": found.config,
        "dtype": found.dtype,
        "device_map": {"": found.device},
        "local_files_only": True,
        "trust_remote_code": False,  # left open, transformers asks on stdout and reads stdin
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if found.quantize:
        # names are matched from their start: "visual" alone would quantise the vision encoder as well
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=found.quantize == "4bit",
            load_in_8bit=found.quantize == "8bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if found.dtype == torch.float32 else found.dtype,
            llm_int8_skip_modules=list(find_language(found.config.model_type).unquantized),
        )
    if can_flash(found.config.model_type, found.device, found.dtype):
        options["attn_implementation"] = "flash_attention_2"
    return options
