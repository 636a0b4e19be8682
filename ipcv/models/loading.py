"""Read a model's weights, tokenizer and preprocessing settings onto its device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ipcv.architecture.internals import attention_kernel
from ipcv.architecture.preprocess import FrameSettings
from ipcv.errors import MemoryExhaustedError, ModelError, first_line, memory_errors
from ipcv.families import find_language
from ipcv.models.facts import ModelFacts
from ipcv.models.guard.folder import weight_files
from ipcv.models.hub import DEMO
from ipcv.models.placement import can_flash
from ipcv.models.source import WHAT_WORKS, ModelSource, ResolvedModel
from ipcv.models.tokenizer import read_processor, read_tokenizer

DEMO_NOTICE = "the demo model knows only its own little world of moving coloured shapes; real videos need another model"


@dataclass(frozen=True)
class Loaded:
    """A model in memory, with its tokenizer and the settings that cut frames into patches."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    patches: FrameSettings
    facts: ModelFacts
    warnings: tuple[str, ...]
    processor: str | None = None  # transformers' processor class that the model's files name
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)  # held while a question is under way

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the model for the length of the `with`. Raises `ValueError` if it is held already."""
        if not self.lock.acquire(blocking=False):
            raise ValueError("this model is answering another question: finish or close that stream first")
        try:
            yield
        finally:
            self.lock.release()


def read_model(source: ModelSource) -> Loaded:
    """Find a model and read it onto its device. Errors as in `ipcv.load`."""
    found = source.resolve()
    processor = read_processor(found.folder)
    tokenizer = read_tokenizer(found.folder, found.config, processor)
    patches = find_language(found.config.model_type).settings(found.folder, found.config)
    network = _read_weights(found)
    facts = ModelFacts(
        name=source.name,
        revision=found.commit,
        family=found.config.model_type,
        parameters=network.num_parameters(),
        device=str(found.device),
        dtype=found.dtype_name,
        quantization=found.quantization,
        attention=attention_kernel(network.config),
    )
    warnings = (*_notices(source.name, network, found.quantize), *found.warnings)
    return Loaded(network, tokenizer, patches, facts, warnings, processor)


def _notices(name: str, network: PreTrainedModel, quantization: str | None) -> Iterator[str]:
    """Warnings about the model itself."""
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


def _read_weights(found: ResolvedModel) -> PreTrainedModel:
    folder = found.folder
    if absent := [name for name in weight_files(folder) if not (folder / name).is_file()]:
        raise ModelError(f"{str(folder)!r} holds no weights ({absent[0]}); {WHAT_WORKS}")
    options = _read_options(found)
    try:
        with memory_errors(
            f"the model in {str(folder)!r} does not fit into the memory of {found.device}: "
            'try `quant="4bit"` or a smaller model'
        ):
            loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    except MemoryExhaustedError:
        raise
    except Exception as error:  # a configuration may be wrong in every way there is
        raise ModelError(f"cannot load the model in {str(folder)!r}: {first_line(error)}") from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place
        count = f"{len(missing)} tensors, {missing[0]} first"
        raise ModelError(f"the weights in {str(folder)!r} lack {count}: fetch the model again")
    return network.eval()


def _read_options(found: ResolvedModel) -> dict[str, Any]:
    """Arguments of `from_pretrained`."""
    options: dict[str, Any] = {
        "config": found.config,
        "dtype": found.dtype,
        "device_map": {"": found.device},
        "local_files_only": True,
        "trust_remote_code": False,  # left open, transformers asks on stdout and reads stdin
        "use_safetensors": True,
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
