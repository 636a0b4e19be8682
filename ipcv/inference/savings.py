"""Stage by stage: wall time and memory measured, tokens counted, FLOPs computed, side by side with no compression."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from ipcv.answer import Baseline, Savings, Stage, StageName
from ipcv.architecture.grids import window_sizes
from ipcv.architecture.shapes import TextShape, VisionShape
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.compression.pruners.decoder_flops import cache_share, decode_flops, prefill_flops
from ipcv.families import find_language
from ipcv.inference.clock import Clock
from ipcv.options import Options

COMPARED: tuple[StageName, ...] = ("encode", "prefill", "generate")  # stages that compression changes


@dataclass(frozen=True, kw_only=True)
class WorkCounts:
    """How much was done so far, as far as tokens and FLOPs depend on it."""

    frames: int
    passes: Sequence[Sequence[int]]  # per encoder pass, tokens of each of its frames
    sizes: Sequence[tuple[int, int]]  # per pass, rows and columns of patches in a frame
    computed: Sequence[Sequence[int]]  # per pass, tokens of each frame or window that were not reused; (): all
    kept: Sequence[Sequence[int]]  # tokens left of each frame or window once some are dropped
    reused: Sequence[bool]  # per pass, whether it was done before, and nothing of it now
    frames_reused: int
    length: int = 0  # tokens of the prompt
    visual: int = 0  # visual tokens in it
    left_out: int = 0  # visual tokens that a reducer left out of it
    reducer_flops: int = 0  # spent on choosing the visual tokens that stay
    chosen: int = 0  # new tokens, an end token counted

    @property
    def held(self) -> int:
        """Prompt and new tokens that the key-value cache holds before the pruning layer."""
        return self.length + max(0, self.chosen - 1)


def stages(config: PretrainedConfig, options: Options, clock: Clock, work: WorkCounts) -> tuple[Stage, ...]:
    """One `Stage` each for what `clock` has measured, with the tokens and FLOPs of `work` under `options`."""
    counted = _counted(config, options, work)
    return tuple(
        Stage(name=name, seconds=seconds, peak_memory=clock.peak.get(name), **counted[name])
        for name, seconds in clock.seconds.items()
    )


def _counted(config: PretrainedConfig, options: Options, work: WorkCounts) -> dict[StageName, dict[str, int]]:
    """Per stage the fields of `Stage` that are counted or computed."""
    vision, text = find_language(config.model_type).vision(config), _text_shape(config)
    pruner, length, visual, chosen = options.pruner, work.length, work.visual, work.chosen
    whole = length + work.left_out
    kept = work.kept or work.passes
    passes = list(zip(work.sizes, work.passes, work.computed, kept, strict=True))
    later = pruner.counts(visual)[-1] if pruner and pruner.prunes else visual
    now = [one for one, before in zip(passes, work.reused, strict=True) if not before]
    frames = {"tokens_in": work.frames, "tokens_computed": work.frames - work.frames_reused}
    return {
        "read": frames,
        "preprocess": frames,
        "encode": {
            "tokens_in": sum(map(sum, work.passes)),
            "tokens_computed": sum(sum(after) for *_, after in now),
            "tokens_reused": sum(sum(before) - sum(computed or before) for _, before, computed, _ in now),
            "flops": sum(_encoder_flops(vision, options, *counts) for counts in now),
            "flops_dense": sum(_encoder_flops(vision, None, size, before) for size, before, *_ in passes),
        },
        "prefill": {
            "tokens_in": whole,
            "tokens_computed": length - visual + later,
            "flops": prefill_flops(text, length, visual, pruner) + work.reducer_flops,
            "flops_dense": prefill_flops(text, whole, visual + work.left_out),
        },
        "generate": {
            "tokens_in": chosen,
            "tokens_computed": chosen,
            "flops": decode_flops(text, length, visual, chosen, pruner),
            "flops_dense": decode_flops(text, whole, visual + work.left_out, chosen),
        },
    }


def _encoder_flops(
    shape: VisionShape,
    options: Options | None,
    size: tuple[int, int],
    frames: Sequence[int],
    computed: Sequence[int] = (),
    kept: Sequence[int] = (),
) -> int:
    compressor = options.compressor if options else None
    windows = window_sizes([(len(frames), *size)], shape.window) if shape.window else ()
    return encoder_flops(shape, PassWork(frames=frames, windows=windows, computed=computed, kept=kept), compressor)


def savings(
    config: PretrainedConfig, options: Options, done: tuple[Stage, ...], work: WorkCounts, baseline: Baseline | None
) -> Savings:
    """Shares of the uncompressed work, computed from the stages, beside what was measured."""
    stage = {each.name: each for each in done}
    shape, dtype = _text_shape(config), config.dtype
    width = (dtype if isinstance(dtype, torch.dtype) else torch.get_default_dtype()).itemsize
    return Savings(
        encode_flops=_share(stage["encode"]),
        prefill_flops=_share(stage["prefill"]),
        total_flops=_share(*(stage[name] for name in COMPARED)),
        cache_share=cache_share(shape, work.held, work.visual, options.pruner, work.left_out, width),
        baseline=baseline,
    )


def _text_shape(config: PretrainedConfig) -> TextShape:
    return find_language(config.model_type).decoder(config.get_text_config())


def _share(*parts: Stage) -> float:
    return sum(part.flops or 0 for part in parts) / sum(part.flops_dense or 0 for part in parts)
