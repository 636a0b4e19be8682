"""Read a model's weights, tokenizer and preprocessing settings onto its device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ipcv.architecture.internals import attention_kernel
from ipcv.architecture.preprocess import FrameSettings
from ipcv.errors import ModelError, first_line
from ipcv.families import find_language
from ipcv.models.facts import ModelFacts
from ipcv.models.hub import DEMO
from ipcv.models.source import WHAT_WORKS, ModelSource, ResolvedModel
from ipcv.models.tokenizer import read_processor, read_tokenizer
from ipcv.models.weights import read_weights

DEMO_NOTICE = "the demo model knows only its own little world of moving coloured shapes; real videos need another model"


@dataclass(frozen=True)
class SmallFiles:
    """A model as its small files describe it, without its weights."""

    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    patches: FrameSettings


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

    @property
    def width(self) -> int:
        """Numbers in an embedding of the language model."""
        return int(self.network.config.get_text_config().hidden_size)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the model for the length of the `with`. Raises `ValueError` if it is held already."""
        if not self.lock.acquire(blocking=False):
            raise ValueError("this model is answering another question: finish or close that stream first")
        try:
            yield
        finally:
            self.lock.release()


def read_model(source: ModelSource, check: Callable[[SmallFiles], object] = lambda _: None) -> Loaded:
    """Find a model and read it onto its device. Errors as in `ipcv.load`.

    `check` sees the small files before the weights are read, which may take minutes: what it raises ends the loading.
    """
    found = source.resolve()
    processor = read_processor(found.folder)
    tokenizer = read_tokenizer(found.folder, found.config, processor)
    patches = _frame_settings(found)
    check(SmallFiles(found.config, tokenizer, patches))
    network = read_weights(found)
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


def _frame_settings(found: ResolvedModel) -> FrameSettings:
    try:
        return find_language(found.config.model_type).settings(found.folder, found.config)
    except ModelError:
        raise
    except Exception as error:  # a configuration may be wrong in every way there is
        name = f"{str(found.folder)!r}"
        raise ModelError(f"the configuration in {name} makes no sense: {first_line(error)}; {WHAT_WORKS}") from error


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
