"""A model's name -> its folder, weights, tokenizer and preprocessing, on the right device."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
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

from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.visual import VisualSpan
from ipcv.errors import ModelError, first_line, memory_errors
from ipcv.families import find_language
from ipcv.models.facts import ModelFacts
from ipcv.models.hub import DEFAULT_MODEL, DEMO, find_folder
from ipcv.models.placement import Dtype, Quant, can_flash, choose_dtype, choose_quantization, find_device, prequantized
from ipcv.models.prompt import build_prompt

__all__ = ["DEFAULT_MODEL", "DEMO_NOTICE", "Loaded", "find_folder", "read_model"]

DEMO_NOTICE = "the demo model knows only its own little world of moving coloured shapes; real videos need another model"
WHAT_WORKS = f"give the folder of a complete model, a hub name such as {DEFAULT_MODEL}, or {DEMO!r}"


@dataclass(frozen=True)
class Loaded:
    """A model with all that belongs to it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    patches: FrameSettings
    facts: ModelFacts
    warnings: tuple[str, ...]
    processor: str | None = None  # of transformers, that the model's files name


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
    where = find_device(device)
    kind = choose_dtype(dtype, where)
    if quant not in get_args(Quant):
        raise ValueError(f"quant {quant!r} is not known: use {', '.join(get_args(Quant))}")
    folder = find_folder(name, revision=revision, offline=offline)
    config = read_config(folder)
    processor = read_processor(folder)
    tokenizer = read_tokenizer(folder, config, processor)
    patches = find_language(config.model_type).settings(folder, config)
    quantization = choose_quantization(quant, where, config)
    network = _read_weights(folder, where, kind, quantization, config)
    facts = ModelFacts(
        name=name,
        revision=_commit(folder),
        family=config.model_type,
        parameters=network.num_parameters(),
        device=str(where),
        dtype=str(kind).removeprefix("torch."),
        quantization=quantization or prequantized(config),
        attention=network.config._attn_implementation,
    )
    return Loaded(network, tokenizer, patches, facts, tuple(_notices(name, network, quantization)), processor)


def _notices(name: str, network: PreTrainedModel, quantization: str | None) -> Iterator[str]:
    """What there is to know about a model."""
    if name == DEMO:
        yield DEMO_NOTICE
    named = network.get_decoder().named_parameters()
    experts = sum(weights.numel() for name, weights in named if ".experts." in name and weights.ndim == 3)
    if quantization and experts:
        share = experts / network.num_parameters()
        yield (
            f"{share:.0%} of the weights are experts' and are not quantised: bitsandbytes knows linear layers only; "
            "a checkpoint that is quantised already is smaller"
        )


def foresee(
    name: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
) -> tuple[Path, str | None, str, str | None]:
    """Folder, commit, dtype and quantisation of what `read_model` would read. Fetches it; errors as there."""
    where = find_device(device)
    kind = choose_dtype(dtype, where)
    folder = find_folder(name, revision=revision, offline=offline)
    config = read_config(folder)
    quantization = choose_quantization(quant, where, config) or prequantized(config)
    return folder, _commit(folder), str(kind).removeprefix("torch."), quantization


def _commit(folder: Path) -> str | None:
    return folder.name if folder.parent.name == "snapshots" else None


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of the model in `folder`. Raises `ModelError` if there is none, or of another family."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder)!r} holds no model: {first_line(error)}; {WHAT_WORKS}") from error
    find_language(config.model_type)  # which must be there
    return config


def read_processor(folder: Path) -> str | None:
    """The first class of transformers that the files in `folder` name for preparing a model's inputs."""
    for name in ("processor_config", "preprocessor_config", "video_preprocessor_config", "tokenizer_config"):
        path = folder / f"{name}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({error}): fetch the model again") from error
        if "processor_class" in values:
            return str(values["processor_class"])
    return None


def read_tokenizer(folder: Path, config: PretrainedConfig, processor: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in `folder`. Raises `ModelError` if it, or its chat template, is of no use."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if (template := folder / "chat_template.json").is_file():  # of the processor: it goes before the tokenizer's
            tokenizer.chat_template = json.loads(template.read_text(encoding="utf-8"))["chat_template"]
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelError(f"cannot load the tokenizer in {str(folder)!r}: {first_line(error)}") from error
    try:
        shown = VisualSpan(kind="video", grid=(1, 2, 2), times=(0.0,), tokens=1)
        build_prompt(tokenizer, config, "?", [shown], processor=processor)
    except Exception as error:  # a template is a program
        raise ModelError(
            f"the chat template in {str(folder)!r} cannot ask about a video: {first_line(error)}; {WHAT_WORKS}"
        ) from error
    return tokenizer


def _read_weights(
    folder: Path, device: torch.device, dtype: torch.dtype, quant: str | None, config: PretrainedConfig
) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}, "local_files_only": True}
    if quant:
        # names are matched from their start: "visual" alone would quantise the vision encoder as well
        skipped = list(find_language(config.model_type).whole)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=quant == "4bit",
            load_in_8bit=quant == "8bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if dtype == torch.float32 else dtype,
            llm_int8_skip_modules=skipped,
        )
    if can_flash(config.model_type, device, dtype):
        options["attn_implementation"] = "flash_attention_2"
    too_large = (
        f"the model in {str(folder)!r} does not fit into the memory of {device}: try quant 4bit or a smaller model"
    )
    try:
        with memory_errors(too_large):
            loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if not any(folder.glob("*.safetensors")):
            why = f"{str(folder)!r} holds no weights (model.safetensors)"
            raise ModelError(f"{why}; {WHAT_WORKS}") from error
        raise ModelError(f"cannot load the model in {str(folder)!r}: {first_line(error)}") from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place
        count = f"{len(missing)} tensors, {missing[0]} first"
        raise ModelError(f"the weights in {str(folder)!r} lack {count}: fetch the model again")
    return network.eval()
