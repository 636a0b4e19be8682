"""An answer, and the events on the way to it: plain data, alike in Python and in JSON. Imports no torch.

`ipcv schema` prints the JSON schema of `Answer`. Times are seconds, sizes bytes. "Measured" means timed or counted
while the work ran; "computed" means a closed form of the model's configuration.
"""

from dataclasses import dataclass
from typing import Literal

from ipcv.limits.budget import Budget, Share
from ipcv.media.frames import MediaKind, VideoFacts
from ipcv.models.facts import ModelFacts
from ipcv.options import Options

SCHEMA_VERSION = 1

FinishReason = Literal["stop", "length"]
StageName = Literal["read", "preprocess", "encode", "prefill", "generate"]
Verdict = Literal["faster", "slower", "too close to call", "too few pairs to call"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the work. Where something was saved, `tokens_computed` and `flops` are the lower numbers.

    They are 0 where nothing was done, because a video's encoding was reused.
    """

    name: StageName
    seconds: float  # measured; reading overlaps with the stages after it
    tokens_in: int  # measured; read and preprocess: frames; encode: patches; prefill: whole prompt; generate: answer
    tokens_computed: int  # measured; those of them that went through the feed-forward part of every layer
    tokens_reused: int = 0  # measured; encode: patches that no block computed, because they hardly changed
    flops: int | None = None  # computed; multiply and add count as two
    flops_dense: int | None = None  # computed; the same work uncompressed
    peak_memory: int | None = None  # measured; on CUDA alone, null elsewhere


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """Seconds of the uncompressed model over seconds of the compressed one, in pairs of runs. All measured."""

    median: float  # the pair in the middle; of an even number the lower one of the two
    low: float  # the median's range: the lowest and the highest pair, or of many pairs 92 % confidence limits
    high: float
    verdict: Verdict  # by the range: too close within 2 % of 1, of three or four pairs within its own width of 1
    seconds: float  # of the compressed run of the pair in the middle
    seconds_dense: float  # of its uncompressed run


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The uncompressed model on the same frames and question, all measured.

    Both answered once before anything was timed. Then they took turns, on frames in memory, at most 32 tokens of the
    answer each, until the ranges were narrow, time was up, or `Options.repeats` pairs were done.
    """

    answer: str
    same_answer: bool
    stages: tuple[Stage, ...]  # encode, prefill and generate, of the one run that gave `answer`
    encode_speedup: float  # median; as in `encode`
    prefill_speedup: float  # likewise
    total_speedup: float  # likewise
    similarity: float  # mean cosine similarity of the visual embeddings to the uncompressed ones
    pairs: int  # how often both were timed
    encode: Speedup
    prefill: Speedup
    total: Speedup  # encode, prefill and generate, the last for as many tokens as the compressed answer has


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Fidelity as asked for and as reached: the mean cosine between compressed and uncompressed features."""

    asked: float
    expected: float | None  # estimated, by a rule that was fitted to another encoder; null: it was not noted
    kept: float  # measured; share of the patches that went through the feed-forward part of every block
    measured: float | None  # of the visual embeddings; with a baseline only
    missed_by: float | None  # measured; what `measured` lacks, 0 if nothing; with a baseline only


@dataclass(frozen=True, kw_only=True)
class Savings:
    """The share of the uncompressed model's work and memory that was needed."""

    encode_flops: float  # computed; share of the uncompressed encoder's FLOPs that were done; 0: encodings were reused
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
    visual_tokens: int  # given to the language model


@dataclass(frozen=True, kw_only=True)
class VisualInput:
    """One video or image of the prompt."""

    kind: MediaKind
    video: VideoFacts
    frames: Frames
    patches: int  # measured; given to the encoder
    patches_computed: int  # measured; those of them that went through the feed-forward part of every block
    patches_reused: int = 0  # measured; those of them that no block computed, because they hardly changed
    reused: bool = False  # whether its encoding comes from the cache: nothing of it was read or encoded now
    budget: Share | None  # of the visual tokens


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, with everything measured and computed on the way to it."""

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
    quality: Quality | None = None  # only if one was asked for
    warnings: tuple[str, ...]  # about everything that was capped, switched, repeated or left out


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A video is open and its frames are chosen. All videos are opened before the first is encoded."""

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
    tokens_computed: int  # those of them that went through the feed-forward part of every block
    tokens_reused: int = 0  # those of them that no block computed, because they hardly changed
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
