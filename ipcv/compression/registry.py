"""Every method by its name."""

from collections.abc import Callable

from ipcv.compression.compressors.ipcv_compressor import IPCV
from ipcv.compression.compressors.tome import ToMe
from ipcv.compression.pruners.dart import Dart
from ipcv.compression.pruners.fastv import FastV
from ipcv.compression.pruners.v2drop import V2Drop
from ipcv.compression.reducers.dtd import DTD
from ipcv.compression.reducers.evs import EVS
from ipcv.compression.reducers.vidcom2 import VidCom2

ENCODER: dict[str, Callable[..., IPCV | ToMe]] = {"coverage": IPCV, "paper": IPCV.paper, "tome": ToMe}
VISUAL: dict[str, Callable[..., EVS | VidCom2 | DTD]] = {"evs": EVS, "vidcom2": VidCom2, "dtd": DTD}
LANGUAGE: dict[str, Callable[..., Dart | FastV | V2Drop]] = {"dart": Dart, "fastv": FastV, "v2drop": V2Drop}
METHODS = (  # and the field of `Options` that each sets
    dict.fromkeys(ENCODER, "compressor") | dict.fromkeys(VISUAL, "reducer") | dict.fromkeys(LANGUAGE, "pruner")
)
