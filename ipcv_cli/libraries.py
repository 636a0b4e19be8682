"""Keeping the libraries underneath from talking over the answer."""

import os
import warnings


def prepare(*, offline: bool, bars: bool, debug: bool) -> None:
    """Call before the first import of `ipcv`. What the user has set in the environment stays.

    `bars`: whether downloads may draw their progress; `debug`: let Python's warnings through.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not debug:
        warnings.simplefilter("ignore")


def hide_loading_bar() -> None:
    """Hide the bar that transformers draws while it reads weights: there is a status line for that."""
    from transformers.utils import logging

    logging.disable_progress_bar()
