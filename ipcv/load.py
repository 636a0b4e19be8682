"""A model's name -> its folder, weights, tokenizer and preprocessing, on the right device."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from ipcv.answer import ModelFacts
from ipcv.encoders import check_family
from ipcv.errors import MemoryExhaustedError, ModelError
from ipcv.preprocess import PatchSettings

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
DEMO = "demo"
DEMO_NOTICE = "the demo model knows only its own little world of moving coloured shapes; use --model for real videos"
HUB_FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]

Quant = Literal["auto", "4bit", "8bit", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Loaded:
    """A model with all that belongs to it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    patches: PatchSettings
    facts: ModelFacts
    warnings: tuple[str, ...]


def read_model(
    name: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
) -> Loaded:
    """Find a model and read it onto its device; arguments and errors as in `ipcv.load`."""
    where = _device(device)
    kind = _dtype(dtype, where)
    if quant not in get_args(Quant):
        raise ValueError(f"quant {quant!r} is not known: use {', '.join(get_args(Quant))}")
    folder = find_folder(name, revision=revision, offline=offline)
    config = _read_config(folder)
    quantization = _quantization(quant, where, config)
    network = _read_weights(folder, where, kind, quantization)
    facts = ModelFacts(
        name=name,
        revision=folder.name if folder.parent.name == "snapshots" else None,
        family=config.model_type,
        parameters=network.num_parameters(),
        device=str(where),
        dtype=str(kind).removeprefix("torch."),
        quantization=quantization or _prequantized(config),
        attention=network.config._attn_implementation,
    )
    warnings = (DEMO_NOTICE,) if name == DEMO else ()
    return Loaded(network, _read_tokenizer(folder), PatchSettings.from_folder(folder), facts, warnings)


def find_folder(name: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The local folder of a model, downloaded if it is a hub repository that is not in the cache yet."""
    if name == DEMO:
        return Path(str(files("ipcv") / "demo"))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "~", "/")) or name.count("/") != 1:
        raise ModelError(f"no model folder {name!r}; give a folder, a hub name such as {DEFAULT_MODEL}, or {DEMO!r}")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, local_files_only=offline))
    except GatedRepoError:
        why = "its authors ask for consent first: accept on its hub page, then `hf auth login`"
    except RevisionNotFoundError:
        why = f"the repository has no revision {revision!r}"
    except RepositoryNotFoundError:
        why = "there is no such repository, or it is private: `hf auth login`"
    except HFValidationError as error:
        why = str(error).splitlines()[0]
    except LocalEntryNotFoundError:
        if offline:
            why = f"it is not in the cache and --offline forbids fetching it: run `hf download {name}` while online"
        else:
            why = "it is not in the cache and the hub cannot be reached"
    except OSError as error:  # no network, no space, no permission
        why = str(error).splitlines()[0]
    raise ModelError(f"model {name!r} is not available: {why}; --model {DEMO} is bundled and needs no network")


def _read_config(folder: Path) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder)!r} holds no model: {str(error).splitlines()[0]}") from error
    check_family(config.model_type)
    return config


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelError(f"cannot load the tokenizer in {str(folder)!r}: {str(error).splitlines()[0]}") from error


def _device(device: str) -> torch.device:
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
    return chosen


def _dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype {dtype!r} is not known: use {', '.join(get_args(Dtype))}")
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _prequantized(config: PretrainedConfig) -> str | None:
    settings = getattr(config, "quantization_config", None)
    return None if settings is None else str(settings.get("quant_method", "yes"))


def _quantization(quant: Quant, device: torch.device, config: PretrainedConfig) -> Literal["4bit", "8bit"] | None:
    if already := _prequantized(config):
        if quant in ("4bit", "8bit"):
            raise ValueError(f"this model's weights are quantised already ({already}): use quant auto")
        return None
    if quant == "auto":
        return "4bit" if device.type in ("cuda", "xpu") else None
    return None if quant == "none" else quant


def _read_weights(folder: Path, device: torch.device, dtype: torch.dtype, quant: str | None) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}, "local_files_only": True}
    if quant:
        # names are matched from their start: "visual" alone would quantise the vision encoder as well
        skipped = ["model.visual", "lm_head"]
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=quant == "4bit",
            load_in_8bit=quant == "8bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=skipped,
        )
    if device.type == "cuda" and dtype != torch.float32 and is_flash_attn_2_available():
        options["attn_implementation"] = "flash_attention_2"
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryExhaustedError(
            f"the model in {str(folder)!r} does not fit into the memory of {device}: "
            "try --quant 4bit or a smaller model"
        ) from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {str(folder)!r}: {str(error).splitlines()[0]}") from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place
        count = f"{len(missing)} tensors, {missing[0]} first"
        raise ModelError(f"the weights in {str(folder)!r} lack {count}: fetch the model again")
    return network.eval()
