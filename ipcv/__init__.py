"""Ask a video a question: compressed vision encoding, streamed answers, measured savings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipcv.answer import Answer, Event
    from ipcv.batch.engine import EngineSettings, LocalEngine
    from ipcv.batch.inputs import Inputs
    from ipcv.batch.plan import Captioned, Failed, Plan
    from ipcv.compression.compressors.ipcv_compressor import IPCV
    from ipcv.compression.compressors.tome import ToMe
    from ipcv.compression.pruners.dart import Dart
    from ipcv.compression.pruners.fastv import FastV
    from ipcv.compression.pruners.v2drop import V2Drop
    from ipcv.compression.reducers.dtd import DTD
    from ipcv.compression.reducers.evs import EVS
    from ipcv.compression.reducers.reused import Reused
    from ipcv.compression.reducers.vidcom2 import VidCom2
    from ipcv.encodings.encoded import Encoded
    from ipcv.errors import IPCVError, MemoryExhaustedError, ModelError, VideoError
    from ipcv.inference.load import load
    from ipcv.inference.model import Model
    from ipcv.limits.fit import Fit, fit_to_device
    from ipcv.media.sampling import Sampling
    from ipcv.media.sources import TimedFrames, read_frames
    from ipcv.models.source import ModelSource
    from ipcv.options import Options
    from ipcv.output.caption import caption

__all__ = [
    "DTD",
    "EVS",
    "IPCV",
    "Answer",
    "Captioned",
    "Dart",
    "Encoded",
    "EngineSettings",
    "Event",
    "Failed",
    "FastV",
    "Fit",
    "IPCVError",
    "Inputs",
    "LocalEngine",
    "MemoryExhaustedError",
    "Model",
    "ModelError",
    "ModelSource",
    "Options",
    "Plan",
    "Reused",
    "Sampling",
    "TimedFrames",
    "ToMe",
    "V2Drop",
    "VidCom2",
    "VideoError",
    "caption",
    "fit_to_device",
    "load",
    "read_frames",
]

_MODULES = {  # and their names; the methods are in the registry
    "answer": ("Answer", "Event"),
    "batch.engine": ("EngineSettings", "LocalEngine"),
    "batch.inputs": ("Inputs",),
    "batch.plan": ("Captioned", "Failed", "Plan"),
    "encodings.encoded": ("Encoded",),
    "errors": ("IPCVError", "MemoryExhaustedError", "ModelError", "VideoError"),
    "limits.fit": ("Fit", "fit_to_device"),
    "options": ("Options",),
    "output.caption": ("caption",),
    "inference.load": ("load",),
    "inference.model": ("Model",),
    "media.sources": ("TimedFrames", "read_frames"),
    "models.source": ("ModelSource",),
    "media.sampling": ("Sampling",),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module, imported when first asked for: most bring torch along, which takes seconds."""
    from ipcv.compression.registry import CLASSES

    homes = CLASSES | {each: module for module, names in _MODULES.items() for each in names}
    if name in homes:
        found = globals()[name] = getattr(import_module(f"ipcv.{homes[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
