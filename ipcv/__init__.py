"""Ask a video a question: compressed vision encoding, streamed answers, measured savings."""

from ipcv.compressor import IPCV
from ipcv.llm import Dart, FastV

__all__ = ["IPCV", "Dart", "FastV"]
