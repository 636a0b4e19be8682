"""The compressed model beside the uncompressed one: both are run in turn until it is clear which is faster."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb

import torch

from ipcv.answer import Baseline, Speedup, Stage, StageName, Verdict
from ipcv.inference.opening import OpenedInputs
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.report import Answered
from ipcv.inference.savings import COMPARED
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameArray, VideoFacts

ENOUGH, MOST = 5, 15  # pairs, after which narrow ranges end the measurement, and after which it ends anyway
NARROW = 0.1  # width of a range, as a share of its median
SECONDS = 120.0  # after which no other pair is begun
TOKENS = 32  # of the answer that each run writes
SURE = 0.92  # confidence of the range of many pairs
CLOSE = 0.02  # a range that comes so near to equally fast is too close to call
FEW = 3  # with fewer pairs nothing is called
HELD = 2**30  # bytes of frames that are held in memory; more are read again for each run

Seconds = dict[StageName, float]


@dataclass(frozen=True)
class Pair:
    """Seconds of each stage, compressed and uncompressed, run one directly after the other."""

    compressed: Seconds
    dense: Seconds


class HeldClip(Clip):
    """A clip with its frames in memory, so that no reading is beside what is timed."""

    def __init__(self, clip: Clip) -> None:
        self.kind, self.times, self.size = clip.kind, clip.times, clip.size
        self._batches = list(clip)
        self._facts = clip.facts

    @property
    def facts(self) -> VideoFacts:
        """Facts about the video."""
        return self._facts

    @property
    def warnings(self) -> tuple[str, ...]:
        """None: the clip that was read has them."""
        return ()

    @property
    def read_seconds(self) -> float:
        """Nothing is read."""
        return 0.0

    def __iter__(self) -> Iterator[FrameArray]:
        return iter(self._batches)

    def close(self) -> None:
        """There is nothing to close."""


def held(opened: OpenedInputs) -> OpenedInputs:
    """`opened` with its frames in memory, if there is room for them."""
    clips = [each for each in opened.inputs if isinstance(each, Clip)]
    if sum(3 * each.size[0] * each.size[1] * len(each.times) for each in clips) > HELD:
        return opened
    return replace(opened, inputs=tuple(HeldClip(each) if isinstance(each, Clip) else each for each in opened.inputs))


def briefly(pipeline: Pipeline) -> Pipeline:
    """`pipeline` for runs that are timed: its answer ends after some tokens."""
    tokens = min(TOKENS, pipeline.options.max_new_tokens)
    return Pipeline(pipeline.model, replace(pipeline.options, max_new_tokens=tokens, baseline=False, repeats=None))


def seconds(stages: Sequence[Stage], tokens: int) -> Seconds:
    """Seconds of what is compared, of an answer with so many tokens."""
    found = {stage.name: stage for stage in stages}
    spent = {name: found[name].seconds for name in COMPARED}
    spent["generate"] *= tokens / found["generate"].tokens_in
    return spent


def enough(pairs: Sequence[Pair], repeats: int | None, began: float) -> bool:
    """Whether no other pair is needed, or there is no time for one; `began`: when the first was, monotonic."""
    if repeats is not None:
        return len(pairs) >= repeats
    if len(pairs) >= MOST or time.monotonic() - began > SECONDS:
        return len(pairs) > 0
    if len(pairs) < ENOUGH:
        return False
    found = (speedup(pairs, "encode"), speedup(pairs, *COMPARED))
    return all(each.high - each.low <= NARROW * each.median for each in found)


def speedup(pairs: Sequence[Pair], *names: StageName) -> Speedup:
    """How much faster the stages called `names` were, taken together."""
    ours = [sum(pair.compressed[name] for name in names) for pair in pairs]
    dense = [sum(pair.dense[name] for name in names) for pair in pairs]
    timed = sorted(zip(ours, dense, strict=True), key=lambda pair: pair[1] / pair[0])
    ratios = [plain / own for own, plain in timed]
    outside, middle = _outside(len(ratios)), (len(ratios) - 1) // 2
    low, high = ratios[outside], ratios[-1 - outside]
    return Speedup(
        median=ratios[middle],
        low=low,
        high=high,
        verdict=verdict(len(pairs), low, high),
        seconds=timed[middle][0],
        seconds_dense=timed[middle][1],
    )


def verdict(pairs: int, low: float, high: float) -> Verdict:
    """Judge by so many pairs whose median lies between `low` and `high`; few pairs may say anything by chance."""
    if pairs < FEW:
        return "too few pairs to call"
    margin = CLOSE if pairs >= ENOUGH else max(CLOSE, high - low)
    if low > 1 + margin:
        return "faster"
    return "slower" if high < 1 - margin else "too close to call"


def _outside(count: int) -> int:
    """How many of `count` values, in order, can be left out at either end: the median is among the others, `SURE`ly."""
    left_out = [
        end for end in range(count // 2) if 2 * sum(comb(count, i) for i in range(end + 1)) <= (1 - SURE) * 2**count
    ]
    return max(left_out, default=0)


def baseline(found: Answered, dense: Answered, stages: tuple[Stage, ...], pairs: Sequence[Pair]) -> Baseline:
    """The comparison of two answers, and of the runs that were timed; `stages` are those of `dense`."""
    encode, prefill, total = speedup(pairs, "encode"), speedup(pairs, "prefill"), speedup(pairs, *COMPARED)
    visual, truth = found.visual.tokens.float(), dense.visual.tokens.float()
    return Baseline(
        answer=dense.text,
        same_answer=found.text == dense.text,
        stages=tuple(stage for stage in stages if stage.name in COMPARED),
        encode_speedup=encode.median,
        prefill_speedup=prefill.median,
        total_speedup=total.median,
        similarity=float(torch.cosine_similarity(visual, truth, dim=-1).mean()),
        pairs=len(pairs),
        encode=encode,
        prefill=prefill,
        total=total,
    )
