"""Keeping the libraries underneath from talking over the answer."""

import logging
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipcv.inference.model import Model
    from ipcv.limits.fit import Fit
    from ipcv.options import Options


def prepare(*, offline: bool, bars: bool, debug: bool) -> None:
    """Call before the first import of `ipcv`. What the user has set in the environment stays.

    `bars`: whether downloads may draw their progress; `debug`: let warnings through.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not debug:
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it speaks up per layer and token


def hide_loading_bar() -> None:
    """Hide the bar that transformers draws while it reads weights: there is a status line for that."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_model(
    name: str,
    *,
    revision: str | None,
    offline: bool,
    quiet: bool,
    no_color: bool,
    status: Callable[[str], None] = lambda _: None,
    **placement: Any,
) -> "Model":
    """`ipcv.load`, with a word on what is fetched if anything is; else `status` says what is being loaded."""
    from ipcv.inference.model import load

    status("")  # the line is free for what a download shows
    if not announce_download(name, revision=revision, offline=offline, quiet=quiet, no_color=no_color):
        status(f"loading {name}")
    hide_loading_bar()
    return load(name, revision=revision, offline=offline, **placement)


def load_to_fit(
    name: str,
    settings: "Options",
    *,
    revision: str | None,
    offline: bool,
    quiet: bool,
    no_color: bool,
    status: Callable[[str], None] = lambda _: None,
    batch_size: int | None = None,
    **placement: Any,
) -> tuple["Model", "Fit"]:
    """The same as `ipcv.fit_to_device` chooses, and what that is; the model's warnings say so."""
    from ipcv.inference.model import told
    from ipcv.limits.fit import fit_to_device

    status("")
    announce_download(name, revision=revision, offline=offline, quiet=quiet, no_color=no_color)
    found = fit_to_device(name, settings, revision=revision, offline=offline, batch_size=batch_size, **placement)
    model = load_model(
        name,
        revision=revision,
        offline=offline,
        quiet=True,  # the download is announced
        no_color=no_color,
        status=status,
        **(placement | {"quant": found.quant}),
    )
    return told(model, found), found


def announce_download(name: str, *, revision: str | None, offline: bool, quiet: bool, no_color: bool) -> bool:
    """Say on stderr what `load` is about to fetch and how much that is; whether it is anything. Errors as in `load`."""
    from ipcv.models.hub import download_size
    from ipcv_cli.display.render import line, magnitude, stderr_console

    size = download_size(name, revision=revision, offline=offline)
    if size and not quiet:
        message = f"{name} from the Hugging Face hub, {magnitude(size, 1000, 'B')}"
        stderr_console(no_color=no_color).print(line("fetching", message), soft_wrap=True)
    return size > 0
