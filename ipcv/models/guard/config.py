"""Read a model's configuration without what would make transformers fetch code, run it or read other files."""

from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from ipcv.architecture.internals import ATTENTION_KEYS
from ipcv.errors import ModelError, first_line
from ipcv.families import find_language
from ipcv.models.guard.folder import check_names, read_json
from ipcv.text import shown

# keys that name code, kernels or files; left out at any depth
_LEFT_OUT = frozenset({"auto_map", "transformers_weights", "fusion_config", "kernel_config", "use_kernels"})
_KERNELS = ("attn_implementation", "experts_implementation")  # parts of keys that name kernels
_BUILT_IN = (None, "eager", "sdpa", "batched_mm", "grouped_mm")  # kernels that are torch's or transformers' own
# keys of numbers by which transformers makes so many modules or names, one after the other
_COUNTS = frozenset(
    {"num_hidden_layers", "depth", "num_labels", "num_experts", "num_local_experts", "n_routed_experts"}
)
_MOST = 10_000
_SLOW = ("PreTrainedTokenizer", "PythonBackend")  # names for which transformers takes its fast tokenizer


def safe_config(path: Path) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """The configuration in a `config.json` of a supported family, and warnings of what was left out of it.

    Raises `ModelError` for a family that is not supported, and for values that make no sense.
    """
    values = read_json(path)
    family = values.get("model_type")
    if not isinstance(family, str):
        raise ModelError(f"{shown(path)} has no model_type that names its family")
    find_language(family)  # raises for a family that is not supported
    _check_counts(values, path)
    _check_quantization(values, path)
    try:
        config: PretrainedConfig = CONFIG_MAPPING[family].from_dict(_cleaned(values))
        config.name_or_path = str(path.parent)
    except Exception as error:  # each class checks its values in its own way
        raise ModelError(f"{shown(path)} makes no sense: {first_line(error)}; fetch the model again") from error
    return config, tuple(_warnings(values))


def check_tokenizer(folder: Path, config: PretrainedConfig) -> None:
    """Raise `ModelError` if the settings in `folder` name a tokenizer that is none, or a file outside the folder."""
    names = [getattr(config, "tokenizer_class", None)]
    if (path := folder / "tokenizer_config.json").is_file():
        values = read_json(path)
        check_names(values, path)
        names.append(values.get("tokenizer_class"))
    for name in names:
        if name is not None and not _is_tokenizer(name):
            raise ModelError(
                f"{shown(path)} names {name!r} as its tokenizer, which is none that can be read without running code: "
                "give a folder with a tokenizer.json"
            )


def _is_tokenizer(name: object) -> bool:
    """Whether transformers takes its tokenizers library for a tokenizer of this name: others may run more than that."""
    if not isinstance(name, str) or name in _SLOW:
        return isinstance(name, str)
    found = getattr(transformers, name, None) or getattr(transformers, name.removesuffix("Fast"), None)
    return found is None or (isinstance(found, type) and issubclass(found, PreTrainedTokenizerFast))


def _check_counts(value: Any, path: Path) -> None:
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_counts(part, path)
    for key in _COUNTS.intersection(value if isinstance(value, dict) else ()):
        if isinstance(value[key], int | float) and value[key] > _MOST:
            raise ModelError(f"{shown(path)} makes no sense: {key} is {value[key]}; fetch the model again")


def _check_quantization(values: dict[str, Any], path: Path) -> None:
    settings = values.get("quantization_config")
    if settings is not None and not isinstance(settings, dict):
        raise ModelError(f"{shown(path)} makes no sense: quantization_config is no object; fetch the model again")


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleaned(part) for part in value]
    if isinstance(value, dict):
        return {key: _cleaned(part) for key, part in value.items() if not _is_left_out(key, part)}
    return value


def _is_left_out(key: str, value: Any) -> bool:
    return key in _LEFT_OUT or (any(part in key for part in _KERNELS) and value not in _BUILT_IN)


def _warnings(values: dict[str, Any]) -> list[str]:
    """Warnings of what is left out: code that belongs to the model, and kernels from the hub."""
    warnings = []
    if "auto_map" in values:
        warnings.append("the model comes with code of its own, which is not run: transformers' classes are used")
    kernel = next((values[key] for key in ATTENTION_KEYS if key in values), None)
    if isinstance(kernel, str) and "/" in kernel:
        warnings.append(f"the attention kernel {kernel!r} is code from the hub, which is not run: torch's is used")
    return warnings
