"""One question from its videos to the answer, as a stream of events; again with less where memory runs out."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from ipcv.answer import Baseline, Event, Final, Opened, Stage, Warned
from ipcv.encodings.encoded import Encoded
from ipcv.inference.baseline import Pair, baseline, briefly, enough, held, seconds
from ipcv.inference.clock import Clock
from ipcv.inference.frame_encoder import STAGES
from ipcv.inference.opening import Input, OpenedInputs, Opener
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.report import (
    Answered,
    counted,
    cut_off,
    done_stages,
    known_warnings,
    quality,
    report,
    short_of,
    stages_done,
)
from ipcv.inference.retry import Room, attempts, no_other_try, returned
from ipcv.media.clip import Clip

Result = TypeVar("Result")


class Answering:
    """A `question` about the videos `asked`."""

    def __init__(self, pipeline: Pipeline, opener: Opener, asked: Sequence[Input], question: str) -> None:
        self.pipeline, self.opener, self.asked, self.question = pipeline, opener, asked, question
        self._warnings: list[str] = []  # warnings, each once, in the order in which they became known

    def events(self, room: Room) -> Iterator[Event]:
        """Yield all that happens; the last event is `Final`. Raises `MemoryExhaustedError`, and errors as `Opener`."""
        for event in attempts(room, self._attempt):
            if isinstance(event, Warned):
                if event.message in self._warnings:
                    continue
                self._warnings.append(event.message)
            yield event

    @torch.no_grad()
    def _attempt(self, room: Room) -> Generator[Event, None, None]:
        pipeline = self.pipeline
        opened = self.opener.open(self.asked, room)
        yield from _warned(known_warnings(pipeline, budget=opened.lowered(), reading=opened.reading()))
        keep = None if room.tries else self._keep
        events = answered(pipeline, opened, self.question, room.frame_batch, keep)
        found = yield from _followed(events, opened.reading)
        compared = self._baseline(opened, found, room.frame_batch) if pipeline.options.baseline else None
        yield from _warned(opened.reading())
        yield from _warned(short_of(quality(pipeline, found.contents.parts, compared)))
        answer = report(
            pipeline, self.question, found, warnings=self._warnings, budget=opened.budget, baseline=compared
        )
        yield Final(answer=answer)

    def _keep(self, clip: Clip, encoded: Encoded) -> None:
        """Store an encoding in the cache, but not that of a clip which was opened elsewhere, by other options maybe."""
        if self.opener.reuse and clip not in self.asked:
            self.opener.reuse.keep(encoded)

    def _baseline(self, opened: OpenedInputs, found: Answered, frame_batch: int) -> Baseline:
        """Answer once more, uncompressed; then time both in turn, each as often the first of a pair as the second."""
        options = replace(self.pipeline.options, compressor=None, reducer=None, pruner=None)
        plain = Pipeline(self.pipeline.model, options, self.question)
        tokens = _stages(self.pipeline, found)[-1].tokens_in
        pairs: list[Pair] = []
        with no_other_try():
            opened = held(opened)
            dense = returned(answered(plain, opened, self.question, frame_batch))
            runs, began = (briefly(self.pipeline), briefly(plain)), time.monotonic()
            while not enough(pairs, options.repeats, began):
                spent = {}
                for run in runs if len(pairs) % 2 else reversed(runs):
                    done = returned(answered(run, opened, self.question, frame_batch))
                    spent[run] = seconds(_stages(run, done), tokens)
                pairs.append(Pair(*(spent[run] for run in runs)))
        return baseline(found, dense, _stages(plain, dense), pairs)


def answered(
    pipeline: Pipeline,
    opened: OpenedInputs,
    question: str,
    frame_batch: int,
    keep: Callable[[Clip, Encoded], None] | None = None,
) -> Generator[Event, None, Answered]:
    """Run all stages for `opened`, an event for each thing that happens; `keep` gets each clip and its encoding.

    Raises `ShortageError` where memory is too little before anything is answered.
    """
    clock = pipeline.clock()
    parts = yield from _encoded(pipeline, opened, clock, frame_batch, keep)
    yield from stages_done(pipeline, clock, counted(pipeline, parts), *STAGES)
    with pipeline.pruned():
        prefilled = pipeline.prefill(parts, question, clock)
        contents, tokens = prefilled.contents, prefilled.decoding.tokens
        yield from stages_done(pipeline, clock, counted(pipeline, parts, contents), "prefill")
        yield from _warned(contents.warnings)
        text = yield from pipeline.write(prefilled, clock)
    yield from stages_done(pipeline, clock, counted(pipeline, parts, contents, len(tokens)), "generate")
    yield from _warned(cut_off(pipeline, len(tokens)))
    return Answered(text=text, tokens=len(tokens), contents=contents, clock=clock)


def _encoded(
    pipeline: Pipeline,
    opened: OpenedInputs,
    clock: Clock,
    frame_batch: int,
    keep: Callable[[Clip, Encoded], None] | None,
) -> Generator[Event, None, list[Encoded]]:
    """Encode all clips of `opened`, one after the other; what is encoded already is taken as it is."""
    for index, each in enumerate(opened.inputs):
        video = each.video if isinstance(each, Encoded) else each.facts
        yield Opened(video=video, frames=len(each.times), index=index, videos=len(opened.inputs))
    clips = [each for each in opened.inputs if isinstance(each, Clip)]
    for clip in clips:
        pipeline.encoder(clock).check(clip)
    done, total = 0, sum(len(clip.times) for clip in clips)
    parts = []
    for each, share in zip(opened.inputs, opened.shares, strict=True):
        if isinstance(each, Encoded):
            clock.add(each.seconds)
            parts.append(replace(each, share=share))
            continue
        part = yield from pipeline.encode(each, clock, share=share, frame_batch=frame_batch, done=done, total=total)
        done, frame_batch = done + len(each.times), part.frame_batch
        if keep:
            keep(each, part)
        parts.append(part)
    return parts


def _stages(pipeline: Pipeline, found: Answered) -> tuple[Stage, ...]:
    parts = found.contents.parts
    return done_stages(pipeline, found.clock, counted(pipeline, parts, found.contents, found.tokens))


def _followed(
    events: Generator[Event, None, Result], warnings: Callable[[], Iterable[str]]
) -> Generator[Event, None, Result]:
    """Yield `events`, and after each of them `warnings`, which grow while files are read; returns what they return."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        yield event
        yield from _warned(warnings())


def _warned(messages: Iterable[str]) -> Iterator[Warned]:
    return (Warned(message=message) for message in messages)
