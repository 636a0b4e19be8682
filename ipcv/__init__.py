"""Ask a video a question: compressed vision encoding, streamed answers, measured savings."""

from ipcv.answer import Answer, Event, Options
from ipcv.compressor import IPCV
from ipcv.encoded import Encoded
from ipcv.errors import IPCVError, MemoryExhaustedError, ModelError, VideoError
from ipcv.fit import Fit, fit_to_device
from ipcv.llm import Dart, FastV, V2Drop
from ipcv.qa import Model, TimedFrames, load
from ipcv.reducers import DTD, EVS, VidCom2
from ipcv.sampling import Sampling
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
