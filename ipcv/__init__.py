"""Ask a video a question: compressed vision encoding, streamed answers, measured savings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipcv.answer import Answer, Event
    from ipcv.compressor import IPCV
    from ipcv.encoded import Encoded
    from ipcv.errors import IPCVError, MemoryExhaustedError, ModelError, VideoError
    from ipcv.fit import Fit, fit_to_device
    from ipcv.llm import Dart, FastV, V2Drop
    from ipcv.media.sampling import Sampling
    from ipcv.options import Options
    from ipcv.qa import Model, TimedFrames, load
    from ipcv.reducers import DTD, EVS, VidCom2
    from ipcv.tome import ToMe

__all__ = [
    "DTD",
    "EVS",
    "IPCV",
    "Answer",
    "Dart",
    "Encoded",
    "Event",
    "FastV",
    "Fit",
    "IPCVError",
    "MemoryExhaustedError",
    "Model",
    "ModelError",
    "Options",
    "Sampling",
    "TimedFrames",
    "ToMe",
    "V2Drop",
    "VidCom2",
    "VideoError",
    "fit_to_device",
    "load",
]

_MODULES = {  # and the names that are theirs
    "answer": ("Answer", "Event"),
    "compressor": ("IPCV",),
    "encoded": ("Encoded",),
    "errors": ("IPCVError", "MemoryExhaustedError", "ModelError", "VideoError"),
    "fit": ("Fit", "fit_to_device"),
    "llm": ("Dart", "FastV", "V2Drop"),
    "options": ("Options",),
    "qa": ("Model", "TimedFrames", "load"),
    "reducers": ("DTD", "EVS", "VidCom2"),
    "media.sampling": ("Sampling",),
    "tome": ("ToMe",),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module, imported when first asked for: most bring torch along, which takes seconds."""
    for module, names in _MODULES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"ipcv.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
