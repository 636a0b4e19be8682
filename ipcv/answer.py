"""What is asked for, what happens on the way, and what comes back: plain data, the same in Python and in JSON.

`ipcv schema` prints the JSON schema of `Answer`. Times are seconds, sizes bytes. "Measured" means timed or counted
while the work ran; "computed" means a closed form of the model's configuration.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from ipcv.budget import Budget, Share
from ipcv.compressor import IPCV
from ipcv.llm import Dart, FastV, V2Drop
from ipcv.probe import Kind, VideoFacts
from ipcv.reducers import DTD, EVS, VidCom2
from ipcv.sampling import Sampling
from ipcv.tome import ToMe

SCHEMA_VERSION = 1

FinishReason = Literal["stop", "length"]
StageName = Literal["read", "preprocess", "encode", "prefill", "generate"]


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


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Which model answered, and how it was held in memory."""

    name: str  # as asked for: "demo", a hub name or a folder
    revision: str | None  # commit of the hub's repository, where it came from there
    family: str  # `model_type` of its configuration
    parameters: int
    device: str
    dtype: str  # of the vision encoder, and of the language model unless it is quantised
    quantization: str | None  # of the language model's linear layers: "4bit", "8bit", or as the checkpoint came
    attention: str  # attention kernel, by transformers' name


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the work. `tokens_computed` and `flops` fall below the other two where something was saved."""

    name: StageName
    seconds: float  # measured; reading overlaps with the stages after it
    tokens_in: int  # measured; read and preprocess: frames; encode: patches; prefill: whole prompt; generate: answer
    tokens_computed: int  # measured; how many of them went through the feed-forward part of every layer
    flops: int | None = None  # computed; multiply and add count as two
    flops_dense: int | None = None  # computed; the same work uncompressed
    peak_memory: int | None = None  # measured; only where the device reports it


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The uncompressed model on the same frames and question, all measured."""

    answer: str
    same_answer: bool
    stages: tuple[Stage, ...]  # encode, prefill and generate
    encode_speedup: float  # seconds of the uncompressed stage over seconds of the compressed one
    prefill_speedup: float
    total_speedup: float  # encode, prefill and generate, the last for an equally long answer
    similarity: float  # mean cosine similarity of the visual embeddings to the uncompressed ones


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What compression saved."""

    encode_flops: float  # computed; share of the uncompressed encoder's FLOPs that were done
    prefill_flops: float  # computed; likewise
    total_flops: float  # computed; encode, prefill and generate
    cache_share: float  # computed; bytes of the uncompressed key-value cache (with states, if any) that were held
    baseline: Baseline | None  # measured; only if asked for


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames that the model saw."""

    times: tuple[float, ...]  # seconds of source time, one per frame; of an image 0
    height: int  # pixels, after resizing
    width: int
    visual_tokens: int  # that the language model was given


@dataclass(frozen=True, kw_only=True)
class VisualInput:
    """One video or image of the prompt."""

    kind: Kind
    video: VideoFacts
    frames: Frames
    patches: int  # measured; that the encoder took
    patches_computed: int  # measured; how many of them went through the feed-forward part of every block
    budget: Share | None  # of the visual tokens


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer and everything that is known about how it came about."""

    schema_version: int = SCHEMA_VERSION
    question: str
    answer: str
    finish_reason: FinishReason  # "length": cut off at `max_new_tokens`
    model: ModelFacts
    video: VideoFacts  # the first one
    frames: Frames  # of the first one
    videos: tuple[VisualInput, ...]  # all of them, in the order in which they were given
    budget: Budget | None  # of visual tokens; None: the videos were encoded without one
    settings: Options
    stages: tuple[Stage, ...]
    savings: Savings
    warnings: tuple[str, ...]  # whatever was capped, switched, repeated or left out


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A video is open and its frames are chosen. All are opened before any is encoded."""

    event: Literal["opened"] = "opened"
    video: VideoFacts
    frames: int  # how many will be encoded
    index: int = 0  # of this video among all, from 0
    videos: int = 1  # how many there are


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """A batch of frames has been read, preprocessed and encoded."""

    event: Literal["frame_batch"] = "frame_batch"
    frames_done: int
    frames: int  # in all, of all videos
    tokens_in: int  # patches of this batch
    tokens_computed: int  # of which the shrunken blocks computed
    seconds: float  # measured; encoding of this batch


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """A stage has ended."""

    event: Literal["stage"] = "stage"
    stage: Stage


@dataclass(frozen=True, kw_only=True)
class Token:
    """The next piece of the answer."""

    event: Literal["token"] = "token"
    text: str


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something was capped, switched, repeated or left out."""

    event: Literal["warning"] = "warning"
    message: str


@dataclass(frozen=True, kw_only=True)
class Final:
    """The end: the whole answer."""

    event: Literal["final"] = "final"
    answer: Answer


Event = Opened | FrameBatch | StageDone | Token | Warned | Final
