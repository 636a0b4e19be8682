"""What a user chose for a question."""

import math
from dataclasses import dataclass, field

from ipcv.compression.compressors.ipcv_compressor import IPCV
from ipcv.compression.compressors.tome import ToMe
from ipcv.compression.pruners.dart import Dart
from ipcv.compression.pruners.fastv import FastV
from ipcv.compression.pruners.v2drop import V2Drop
from ipcv.compression.reducers.dtd import DTD
from ipcv.compression.reducers.evs import EVS
from ipcv.compression.reducers.vidcom2 import VidCom2
from ipcv.media.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a question is answered. The defaults are those of the command line. Bad values raise `ValueError`."""

    sampling: Sampling = field(default_factory=Sampling)  # which frames
    max_pixels: int | None = None  # per frame, after resizing; None: 448 x 448, or less if the model's limit is lower
    max_visual_tokens: int | None = None  # in the prompt, of all videos; None: what the model's context leaves
    frame_batch: int = 16  # frames encoded at a time
    compressor: IPCV | ToMe | None = field(default_factory=IPCV)  # None: the encoder computes every token
    reducer: EVS | VidCom2 | DTD | None = None  # None: every visual token is in the prompt
    pruner: Dart | FastV | V2Drop | None = field(default_factory=Dart)  # None: the language model sees every token
    system: str | None = None  # system prompt; None: whatever the model's chat template does without one
    max_new_tokens: int = 512
    temperature: float = 0.0  # 0: always the most likely token
    seed: int = 0  # of the sampling where temperature > 0
    baseline: bool = False  # also run uncompressed, and measure what compression saved and cost

    def __post_init__(self) -> None:
        if self.frame_batch < 2 or self.frame_batch % 2:
            raise ValueError(f"frame_batch={self.frame_batch} must be an even number of frames, at least 2")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels} must be at least 1")
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise ValueError(f"max_visual_tokens={self.max_visual_tokens} must be at least 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} must be at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature={self.temperature} must be a number, 0 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} must be a whole number from 0 to 2**63 - 1")


PIXELS = 448 * 448  # per frame, unless asked for otherwise
