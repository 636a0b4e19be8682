"""The answer with everything that is known about how it came about."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import mul
from typing import Any

from ipcv.answer import Answer, Baseline, Frames, Quality, Stage, StageDone, StageName, VisualInput
from ipcv.architecture.visual import Visual
from ipcv.encodings.encoded import Encoded
from ipcv.inference.clock import Clock
from ipcv.inference.pipeline import Pipeline, PromptContents
from ipcv.inference.savings import WorkCounts, savings, stages
from ipcv.limits.budget import Budget


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """An answer that has been written: its text, what it answers, and how long everything took."""

    text: str
    tokens: int  # new ones, without the end-of-sequence token
    contents: PromptContents
    clock: Clock

    @property
    def visual(self) -> Visual:
        """All that was encoded."""
        return Visual.cat([part.visual for part in self.contents.parts])


def report(
    pipeline: Pipeline,
    question: str,
    answered: Answered,
    *,
    warnings: Iterable[str],
    budget: Budget | None = None,
    baseline: Baseline | None = None,
) -> Answer:
    """The answer to `question`, with the measurements, counts and savings of `pipeline`."""
    options, config, contents = pipeline.options, pipeline.network.config, answered.contents
    work = counted(pipeline, contents.parts, contents, answered.tokens)
    done = done_stages(pipeline, answered.clock, work)
    videos = tuple(starmap(_visual_input, zip(contents.parts, contents.visual, strict=True)))
    return Answer(
        question=question,
        answer=answered.text,
        finish_reason="length" if is_cut_off(pipeline, answered.tokens) else "stop",
        model=pipeline.model.facts,
        video=videos[0].video,
        frames=videos[0].frames,
        videos=videos,
        budget=budget,
        settings=options,
        stages=done,
        savings=savings(config, options, done, work, baseline),
        quality=quality(pipeline, contents.parts, baseline),
        warnings=tuple(warnings),
    )


def quality(pipeline: Pipeline, parts: Sequence[Encoded], baseline: Baseline | None = None) -> Quality | None:
    """The quality that was reached, if one was asked for."""
    asked = getattr(pipeline.options.compressor, "quality", None)
    if asked is None:
        return None
    sizes = [sum(each) for part in parts for each in part.passes]
    estimates = [each for part in parts for each in part.expected]
    whole = len(estimates) == len(sizes)
    return Quality(
        asked=asked,
        expected=sum(map(mul, estimates, sizes)) / sum(sizes) if whole else None,
        kept=sum(sum(each) for part in parts for each in part.kept or part.passes) / sum(sizes),
        measured=baseline.similarity if baseline else None,
        missed_by=max(0.0, asked - baseline.similarity) if baseline else None,
    )


def short_of(found: Quality | None) -> Iterator[str]:
    """Warnings that the quality asked for is not expected, or was measured and is not there."""
    if found and found.expected is not None and found.expected < found.asked:
        yield (
            f"quality={found.asked} is more than can be expected: about {found.expected:.2f}, with {found.kept:.0%} of "
            "the patches kept, and no more are tried; use keep in its place"
        )
    if found and found.missed_by:
        yield f"quality={found.asked} was missed by {found.missed_by:.3f}: {found.measured:.3f} was measured"


def known_warnings(
    pipeline: Pipeline,
    *,
    budget: Iterable[str] = (),
    reading: Iterable[str] = (),
    memory: Iterable[str] = (),
    answered: Answered | None = None,
) -> list[str]:
    """All warnings that are known by now, each once, in the one order that `ask` and `caption` have.

    First those of the model and the methods, then what the budget lowered, of reading, of memory, of the answer.
    """
    last = (*answered.contents.warnings, *cut_off(pipeline, answered.tokens)) if answered else ()
    known = (*pipeline.model.warnings, *pipeline.warnings, *budget, *reading, *memory, *last)
    return list(dict.fromkeys(known))


def is_cut_off(pipeline: Pipeline, tokens: int) -> bool:
    """Whether an answer of so many new tokens ended because no more were allowed."""
    return tokens == pipeline.options.max_new_tokens


def cut_off(pipeline: Pipeline, tokens: int) -> Iterator[str]:
    """A warning if an answer of so many new tokens was cut off."""
    if is_cut_off(pipeline, tokens):
        yield f"the answer was cut off at {tokens} new tokens: raise max_new_tokens"


def counted(
    pipeline: Pipeline, parts: Sequence[Encoded], contents: PromptContents | None = None, tokens: int = 0
) -> WorkCounts:
    """The work on `parts`, on a prompt about them once there is one, and on so many new `tokens`."""
    step = pipeline.patches.temporal_patch_size
    encoding: dict[str, Any] = {
        "frames": sum(len(each) for part in parts for each in part.passes) * step,
        "frames_reused": sum(len(each) for part in parts for each in part.passes if part.reused) * step,
        "reused": [part.reused for part in parts for _ in part.passes],
        "passes": [each for part in parts for each in part.passes],
        "sizes": [part.grid[1:] for part in parts for _ in part.passes],
        "computed": [each for part in parts for each in part.computed or ((),) * len(part.passes)],
        "kept": [each for part in parts for each in part.kept or part.passes],
    }
    if contents is None:
        return WorkCounts(**encoding)
    return WorkCounts(
        **encoding,
        length=contents.length,
        visual=sum(contents.visual),
        left_out=sum(len(part.visual) for part in contents.parts) - sum(contents.visual),
        reducer_flops=contents.reducer_flops,
        chosen=tokens + (not is_cut_off(pipeline, tokens)),
    )


def done_stages(pipeline: Pipeline, clock: Clock, work: WorkCounts) -> tuple[Stage, ...]:
    """The stages that `clock` has measured."""
    return stages(pipeline.network.config, pipeline.options, clock, work)


def stages_done(pipeline: Pipeline, clock: Clock, work: WorkCounts, *names: StageName) -> Iterator[StageDone]:
    """Events for the stages called `names`."""
    done = done_stages(pipeline, clock, work)
    return (StageDone(stage=stage) for stage in done if stage.name in names)


def _visual_input(part: Encoded, visual: int) -> VisualInput:
    height, width = part.size
    return VisualInput(
        kind=part.kind,
        video=part.video,
        frames=Frames(times=part.times, height=height, width=width, visual_tokens=visual),
        patches=sum(map(sum, part.passes)),
        patches_computed=sum(map(sum, part.kept or part.passes)),
        patches_reused=sum(map(sum, part.passes)) - sum(map(sum, part.computed or part.passes)),
        reused=part.reused,
        budget=part.share,
    )
