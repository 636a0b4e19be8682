"""Libraries that only the package's extras install, imported when they are needed."""

from importlib import import_module
from typing import Any

_NEEDS = {  # package: extra, and what needs it
    "pyarrow": ("parquet", "Parquet needs pyarrow"),
    "ray": ("ray", "the engine ray needs Ray"),
    "scenedetect": ("scenes", "segments by scenes need PySceneDetect"),
}


def require(module: str) -> Any:
    """Import a module of an extra. Raises `ValueError` that names the extra if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        extra, needs = _NEEDS[module.partition(".")[0]]
        raise ValueError(f"{needs}: pip install 'ipcv[{extra}]'") from error
