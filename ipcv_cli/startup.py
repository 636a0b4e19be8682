"""Start the libraries beneath the command line quietly, and load the model."""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO, cast

from ipcv.processors import usable_processors
from ipcv_cli.display.stdio import Stderr

if TYPE_CHECKING:
    from ipcv.inference.load import FittedModel
    from ipcv.models.source import ModelSource
    from ipcv.options import Options
    from ipcv.readers.single import FileReader


def prepare(*, offline: bool, bars: bool, debug: bool) -> None:
    """Keep libraries quiet and their threads modest; to be called before they are imported.

    The user's environment goes first.
    `bars`: downloads may draw their progress. `debug`: warnings are shown, and what readers print.
    """
    _share_processors()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not debug:
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns for every layer and token
    else:
        logger = logging.getLogger("ipcv")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(logging.StreamHandler(cast("TextIO", Stderr())))


def _share_processors() -> None:
    """Let torch's threads sleep while they wait, and have no more of them than a container's quota pays for.

    By default they spin, which takes the processor from whatever else runs: beside other work, readers included,
    that makes two threads many times slower than one. OpenMP reads this once, as torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    usable = usable_processors()
    if usable < (os.cpu_count() or 1) and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        os.environ["OMP_NUM_THREADS"] = str(usable)


def hide_loading_bar() -> None:
    """Hide the bar that transformers draws while it reads weights: there is a status line for that."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_model(
    source: "ModelSource",
    options: "Options",
    questions: Sequence[str] = (),
    *,
    quiet: bool,
    no_color: bool,
    status: Callable[[str], None] = lambda _: None,
    batch_size: int | None = None,
    reader: "FileReader | None" = None,
) -> "FittedModel":
    """`load_fitted`, with a line on stderr for a download unless `quiet`; `status` is told what is loaded."""
    from ipcv.inference.load import load_fitted

    status("")  # the line is free for the download's bar
    if not announce_download(source, quiet=quiet, no_color=no_color):
        status(f"loading {source.name}")
    hide_loading_bar()
    return load_fitted(source, options, questions, batch_size=batch_size, reader=reader)


def check_model(name: str, revision: str | None) -> None:
    """Raise `ModelError` for a name that is neither a folder nor that of a repository, before torch is imported."""
    from ipcv.models.hub import local

    local(name, revision)


def announce_download(source: "ModelSource", *, quiet: bool, no_color: bool) -> bool:
    """Announce on stderr what loading will fetch, with its size; return whether it is anything. Errors as of `load`."""
    from ipcv.models.hub import download_size
    from ipcv_cli.display.render import line, magnitude, stderr_console

    size = download_size(source.name, revision=source.revision, offline=source.offline)
    if size and not quiet:
        message = f"{source.name} from the Hugging Face hub, {magnitude(size, 1000, 'B')}"
        stderr_console(no_color=no_color).print(line("fetching", message), soft_wrap=True)
    return size > 0
