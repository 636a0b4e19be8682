"""IPCV's presets: how careful it is, by a name. Imports no torch, so that the command line can name them cheaply."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {  # settings in which each differs from the default
    "fast": {"keep": 0.25},
    "balanced": {},
    "careful": {"keep": 0.7, "reuse": 0.06, "cut": 0.1},
}
