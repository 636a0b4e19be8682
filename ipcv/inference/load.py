"""Load a model by its address, with options that fit into the free memory where that is asked for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ipcv.inference.model import Model
from ipcv.inference.pipeline import check_options
from ipcv.limits.fit import fit_to_device
from ipcv.models.hub import DEFAULT_MODEL
from ipcv.models.loading import Loaded, SmallFiles, read_model
from ipcv.models.placement import Dtype, Quant
from ipcv.models.source import ModelSource
from ipcv.options import Options
from ipcv.readers.single import FileReader

SMALL = 50_000_000  # parameters
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # variables that say how many threads torch has


def load(
    name: str | ModelSource = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
) -> Model:
    """Load a model that answers questions about videos.

    `name` is "demo" (bundled), a folder, or a repository on the Hugging Face hub, fetched on first use; `revision` is
    a branch, tag or commit there. `device` "auto" takes the accelerator if there is one; `dtype` "auto" is bfloat16
    there (float16 on GPUs without it) and float32 on the CPU. `quant` "4bit" or "8bit" quantises the language model's
    linear layers through bitsandbytes and nothing else ("auto": 4 bits on CUDA and XPU, none elsewhere). `offline`
    makes no network call. A `ModelSource` in place of the name holds all of these.

    Raises `ModelError` if the model cannot be had or is of an unsupported family, `MemoryExhaustedError` if it does
    not fit, `ValueError` for settings that make no sense.
    """
    source = ModelSource.of(name, revision=revision, device=device, dtype=dtype, quant=quant, offline=offline)
    if source.fit:
        raise ValueError("fit changes options as well, which load does not take: use fit_to_device first")
    return Model(read_model(source))


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A loaded model, and the options and the batch size that it is to work with."""

    model: Model
    options: Options
    batch_size: int | None  # answers written at a time, if a batch was asked about


def load_fitted(
    source: ModelSource,
    options: Options,
    questions: Sequence[str] = (),
    *,
    batch_size: int | None = None,
    neighbors: int = 1,
    reader: FileReader | None = None,
) -> FittedModel:
    """Load a model; with `source.fit`, quantised as needed, and with options and batch size that fit beside it.

    What was lowered, and why, is among the model's warnings. Options and `questions` that do not fit the model are
    refused before its weights are read. The model reads files through `reader`. On a CPU torch gets one thread for a
    small model. Arguments and errors as of `fit_to_device` and `load`.
    """

    def check(model: SmallFiles) -> None:
        check_options(options, model, questions)

    if not source.fit:
        model = Model(_on_few_threads(read_model(source, check)), reader)
        return FittedModel(model=model, options=options, batch_size=batch_size)
    found = fit_to_device(source, options, batch_size=batch_size, neighbors=neighbors)
    loaded = _on_few_threads(read_model(replace(source, quant=found.quant), check))
    model = Model(replace(loaded, warnings=(*loaded.warnings, found.why)), reader)
    return FittedModel(model=model, options=found.options, batch_size=found.batch_size)


def _on_few_threads(loaded: Loaded) -> Loaded:
    """Let torch work with one thread on a small model, unless the environment says how many it has.

    What such a model does at once is done before a second thread has woken.
    """
    if loaded.facts.device == "cpu" and loaded.facts.parameters < SMALL and not set(THREADS) & os.environ.keys():
        torch.set_num_threads(1)
    return loaded
