"""Stage by stage: wall time and memory measured, tokens counted, FLOPs computed, side by side with no compression."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PretrainedConfig

from ipcv import flops
from ipcv.answer import Baseline, Options, Savings, Stage, StageName

COMPARED: tuple[StageName, ...] = ("encode", "prefill", "generate")  # stages that compression changes


class Clock:
    """Wall time and peak memory per stage; a stage may be entered many times."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[StageName, float] = {}
        self.peak: dict[StageName, int] = {}

    @contextmanager
    def stage(self, name: StageName) -> Iterator[None]:
        """Add what happens inside to the stage `name`. Waits for the device at both ends."""
        self._settle(reset=True)
        start = time.perf_counter()
        try:
            yield
        finally:
            peak = self._settle()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            if peak is not None:
                self.peak[name] = max(peak, self.peak.get(name, 0))

    def _settle(self, *, reset: bool = False) -> int | None:
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize(self.device)
        peak = torch.cuda.max_memory_allocated(self.device)
        if reset:
            torch.cuda.reset_peak_memory_stats(self.device)
        return peak


@dataclass(kw_only=True)
class Work:
    """What one run did, as far as tokens and FLOPs depend on it."""

    frames: int = 0
    passes: list[list[int]] = field(default_factory=list)  # per encoder pass, patches of each of its frames
    kept_bounds: list[Tensor] = field(default_factory=list)  # per encoder pass, as the compressor yields them
    length: int = 0  # of the prompt
    visual: int = 0  # visual tokens in it
    chosen: int = 0  # new tokens, an end token counted

    def kept(self, index: int) -> list[int]:
        """Tokens per frame that the shrunken blocks of encoder pass `index` computed."""
        return self.kept_bounds[index].diff().tolist() if self.kept_bounds else self.passes[index]

    @property
    def held(self) -> int:
        """Prompt and new tokens that the key-value cache holds before the pruning layer."""
        return self.length + max(0, self.chosen - 1)


def stages(config: PretrainedConfig, options: Options, clock: Clock, work: Work) -> tuple[Stage, ...]:
    """One `Stage` each for what `clock` has measured, with the FLOPs of `work` under `options`."""
    vision, text = flops.VisionShape.of(config.vision_config), flops.TextShape.of(config.get_text_config())
    pruner = options.pruner
    passes = range(len(work.passes))
    kept = [work.kept(index) for index in passes]
    later = work.visual if pruner is None or pruner.keep == 1 else pruner.count(work.visual)
    patches = sum(map(sum, work.passes))
    counted: dict[StageName, tuple[int, int, int | None, int | None]] = {
        "read": (work.frames, work.frames, None, None),
        "preprocess": (work.frames, work.frames, None, None),
        "encode": (
            patches,
            sum(map(sum, kept)),
            sum(flops.encoder_flops(vision, work.passes[i], options.compressor, kept[i]) for i in passes),
            sum(flops.encoder_flops(vision, frames) for frames in work.passes),
        ),
        "prefill": (
            work.length,
            work.length - work.visual + later,
            flops.prefill_flops(text, work.length, work.visual, pruner),
            flops.prefill_flops(text, work.length, work.visual),
        ),
        "generate": (
            work.chosen,
            work.chosen,
            flops.decode_flops(text, work.length, work.visual, work.chosen, pruner),
            flops.decode_flops(text, work.length, work.visual, work.chosen),
        ),
    }
    return tuple(
        Stage(
            name=name,
            seconds=seconds,
            tokens_in=counted[name][0],
            tokens_computed=counted[name][1],
            flops=counted[name][2],
            flops_dense=counted[name][3],
            peak_memory=clock.peak.get(name),
        )
        for name, seconds in clock.seconds.items()
    )


def savings(
    config: PretrainedConfig, options: Options, done: tuple[Stage, ...], work: Work, baseline: Baseline | None
) -> Savings:
    """Shares of the uncompressed work, computed from the stages, beside what was measured."""
    stage = {each.name: each for each in done}
    shape = flops.TextShape.of(config.get_text_config())
    return Savings(
        encode_flops=_share(stage["encode"]),
        prefill_flops=_share(stage["prefill"]),
        total_flops=_share(*(stage[name] for name in COMPARED)),
        cache_tokens=flops.cache_share(shape, work.held, work.visual, options.pruner),
        baseline=baseline,
    )


def compare(
    answer: str, done: tuple[Stage, ...], visual: Tensor, dense_answer: str, dense: tuple[Stage, ...], truth: Tensor
) -> Baseline:
    """A compressed run beside the uncompressed one; `visual` and `truth` `[n, d]` are their visual embeddings."""
    stage, plain = {each.name: each for each in done}, {each.name: each for each in dense}

    def speedup(*names: StageName) -> float:
        return sum(plain[name].seconds for name in names) / sum(stage[name].seconds for name in names)

    return Baseline(
        answer=dense_answer,
        same_answer=answer == dense_answer,
        stages=tuple(plain[name] for name in COMPARED),
        encode_speedup=speedup("encode"),
        prefill_speedup=speedup("prefill"),
        total_speedup=speedup(*COMPARED),
        similarity=float(torch.cosine_similarity(visual.float(), truth.float(), dim=-1).mean()),
    )


def _share(*parts: Stage) -> float:
    return sum(part.flops or 0 for part in parts) / sum(part.flops_dense or 0 for part in parts)
