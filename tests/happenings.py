"""The events of one answered question, written by hand: what the command line has to show."""

from ipcv.answer import (
    Answer,
    Baseline,
    Event,
    Final,
    FrameBatch,
    Frames,
    Opened,
    Savings,
    Speedup,
    Stage,
    StageDone,
    Token,
    VisualInput,
    Warned,
)
from ipcv.media.frames import VideoFacts
from ipcv.models.facts import ModelFacts
from ipcv.options import Options

VIDEO = VideoFacts(
    path="clip.mp4",
    duration=4.0,
    width=320,
    height=240,
    fps=25.0,
    frames=100,
    codec="h264",
    container="mp4",
    rotation=0,
    reader="pyav",
)
STAGES = (
    Stage(name="read", seconds=0.0412, tokens_in=8, tokens_computed=8),
    Stage(name="preprocess", seconds=0.01, tokens_in=8, tokens_computed=8),
    Stage(name="encode", seconds=4.2, tokens_in=2304, tokens_computed=806, flops=47 * 10**9, flops_dense=10**11),
    Stage(
        name="prefill",
        seconds=1.5,
        tokens_in=640,
        tokens_computed=352,
        flops=9 * 10**9,
        flops_dense=10**10,
        peak_memory=3 * 1024**3,
    ),
    Stage(name="generate", seconds=75.0, tokens_in=2, tokens_computed=2, flops=10**6, flops_dense=10**6),
)
FRAMES = Frames(times=(0.0, 0.5), height=112, width=140, visual_tokens=576)
VIDEO_INPUT = VisualInput(kind="video", video=VIDEO, frames=FRAMES, patches=2304, patches_computed=806, budget=None)
BASELINE = Baseline(
    answer="blue",
    same_answer=False,
    stages=STAGES,
    encode_speedup=2.1,
    prefill_speedup=1.25,
    total_speedup=1.5,
    similarity=0.987,
    pairs=7,
    encode=Speedup(median=2.1, low=2.0, high=2.3, verdict="faster", seconds=4.0, seconds_dense=8.4),
    prefill=Speedup(median=1.25, low=0.97, high=1.31, verdict="too close to call", seconds=1.2, seconds_dense=1.5),
    total=Speedup(median=1.5, low=1.4, high=1.6, verdict="faster", seconds=60.0, seconds_dense=90.0),
)


def answer(
    text: str = "red.",
    *,
    warnings: tuple[str, ...] = (),
    baseline: Baseline | None = None,
    name: str = "demo",
) -> Answer:
    """An answer whose numbers are easy to recognise."""
    return Answer(
        question="What colour is it?",
        answer=text,
        finish_reason="stop",
        model=ModelFacts(
            name=name,
            revision=None,
            family="qwen2_vl",
            parameters=3_812_352,
            device="cpu",
            dtype="float32",
            quantization=None,
            attention="sdpa",
        ),
        video=VIDEO,
        frames=FRAMES,
        videos=(
            VisualInput(kind="video", video=VIDEO, frames=FRAMES, patches=2304, patches_computed=806, budget=None),
        ),
        budget=None,
        settings=Options(),
        stages=STAGES,
        savings=Savings(encode_flops=0.47, prefill_flops=0.9, total_flops=0.509, cache_share=0.55, baseline=baseline),
        warnings=warnings,
    )


def events(*pieces: str, warnings: tuple[str, ...] = (), baseline: Baseline | None = None) -> list[Event]:
    """Everything that happens when the answer comes in `pieces`; the warnings come between the first two."""
    first, *others = pieces
    return [
        Opened(video=VIDEO, frames=8),
        FrameBatch(frames_done=8, frames=8, tokens_in=2304, tokens_computed=806, seconds=4.2),
        *(StageDone(stage=stage) for stage in STAGES[:4]),
        Token(text=first),
        *(Warned(message=message) for message in warnings),
        *(Token(text=piece) for piece in others),
        StageDone(stage=STAGES[4]),
        Final(answer=answer("".join(pieces), warnings=warnings, baseline=baseline)),
    ]


SUMMARY = """\
demo on cpu, float32: 2 frames of 140 × 112
stage          time    tokens in → computed         FLOPs  of dense    memory
─────────────────────────────────────────────────────────────────────────────
read        0.041 s                8 frames
preprocess  0.010 s                8 frames
encode       4.20 s     2,304 → 806 patches   47.00 GFLOP       47%
prefill      1.50 s        640 → 352 tokens    9.00 GFLOP       90%  3.00 GiB
generate     75.0 s                2 tokens    1.00 MFLOP      100%
computed: 51% of the uncompressed FLOPs in all, 55% of the key-value cache
Time, tokens and memory are measured; FLOPs are computed from the model's sizes."""

NARROW = """\
stage          time    tokens in → computed  of dense
─────────────────────────────────────────────────────
read        0.041 s                8 frames
preprocess  0.010 s                8 frames
encode       4.20 s     2,304 → 806 patches       47%
prefill      1.50 s        640 → 352 tokens       90%
generate     75.0 s                2 tokens      100%
"""
