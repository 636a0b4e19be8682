"""Ask a video a question: compressed vision encoding, streamed answers, measured savings."""

from ipcv.answer import Answer, Event, Options
from ipcv.compressor import IPCV
from ipcv.encoded import Encoded
from ipcv.errors import IPCVError, MemoryExhaustedError, ModelError, VideoError
from ipcv.llm import Dart, FastV
from ipcv.qa import Model, TimedFrames, load
from ipcv.sampling import Sampling

__all__ = [
    "IPCV",
    "Answer",
    "Dart",
    "Encoded",
    "Event",
    "FastV",
    "IPCVError",
    "MemoryExhaustedError",
    "Model",
    "ModelError",
    "Options",
    "Sampling",
    "TimedFrames",
    "VideoError",
    "load",
]
