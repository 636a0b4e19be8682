"""Videos under way in a batch, and their answers, from the prompt in its cache to the text."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ipcv.batch.plan import Captioned, Cause, Failed, Outcome, Part, WorkItem, failure
from ipcv.batch.prepared_clip import PreparedClip
from ipcv.batch.prompts import parse
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Reuse
from ipcv.inference.clock import Clock
from ipcv.inference.pipeline import Pipeline, Prefilled
from ipcv.inference.report import Answered, known_warnings, report
from ipcv.inference.retry import Room
from ipcv.limits.budget import Budget, Share
from ipcv.media.clip import Clip
from ipcv.media.segments import Span
from ipcv.readers.job import ClipRead, ReadJob


@dataclass(kw_only=True, eq=False)
class PendingAnswer:
    """One question about one clip. Its tensors are let go once it is written."""

    span: Span  # of the clip, in seconds of source time
    question: str
    structured: bool  # the answer is to be a JSON object
    budget: Budget  # of visual tokens
    lowered: tuple[tuple[Cause, str], ...]  # as in `Part`
    pipeline: Pipeline
    prefilled: Prefilled | None  # None: the answer is written, or will never be
    clock: Clock
    text: str = ""
    part: Part | None = None  # the answer
    error: Exception | None = None  # why there is none

    def asked_again(self, question: str, prefilled: Prefilled, clock: Clock) -> None:
        """Put another question in place of the one whose answer could not be used."""
        self.question, self.prefilled, self.clock, self.text = question, prefilled, clock, ""

    def finish(self, data: dict[str, Any] | None, problem: str | None) -> None:
        """Make the part of the output of the text; `data` is the JSON object in it, `problem` why there is none."""
        if self.prefilled is None:
            raise ValueError("an answer is finished once")
        contents = self.prefilled.contents
        answered = Answered(
            text=self.text, tokens=len(self.prefilled.decoding.tokens), contents=contents, clock=self.clock
        )
        warnings = known_warnings(
            self.pipeline,
            budget=[message for cause, message in self.lowered if cause == "budget"],
            reading=contents.parts[0].warnings,
            memory=[message for cause, message in self.lowered if cause == "memory"],
            answered=answered,
        )
        answer = report(self.pipeline, self.question, answered, warnings=warnings, budget=self.budget)
        start, end = self.span
        self.part = Part(start=start, end=end, answer=answer, data=data, problem=problem, lowered=self.lowered)
        self.prefilled = None

    def fail(self, error: Exception) -> None:
        """Give the answer up."""
        self.error, self.prefilled = error, None

    def parsed(self) -> tuple[dict[str, Any] | None, str | None]:
        """The JSON object that was asked for, if it was; or why there is none."""
        if not self.structured:
            return None, None
        found, problem = parse(self.text)
        return found.model_dump() if found else None, problem


@dataclass(kw_only=True, eq=False)
class PendingVideo:
    """A video under way."""

    work: WorkItem
    job: ReadJob | None = None  # how it is read; None: it has failed
    pipeline: Pipeline | None = None  # with the item's own start and end
    encoded: Encoded | None = None  # from the cache
    reuse: Reuse | None = None  # the cache, if the encoding goes there
    answers: list[PendingAnswer] = field(default_factory=list)
    failed: Failed | None = None
    is_read: bool = False  # whether all of its answers are there

    def clips(self, reading: Iterable[ClipRead] | None) -> Iterator[PreparedClip]:
        """The video as the cache has it, or else its clips as they are read."""
        encoded, self.encoded = self.encoded, None
        if self.pipeline and encoded and encoded.share:
            sampling, over = self.pipeline.options.sampling, encoded.video.duration
            span = (sampling.start or 0.0, min(over, sampling.end or over))
            yield self._prepared(span, encoded, encoded.share)
        for span, clip, share in reading or ():
            yield self._prepared(span, clip, share)

    def _prepared(self, span: Span, clip: Clip | Encoded, share: Share) -> PreparedClip:
        job = self.job
        if job is None or self.pipeline is None:
            raise ValueError("a video that has failed is not read")
        room = Room(patches=job.planner.patches, limit=job.limit, frame_batch=job.frame_batch)
        if job.segments:
            job = replace(job, sampling=replace(job.sampling, start=span[0], end=span[1]), segments=None)
        return PreparedClip(
            pipeline=self.pipeline, job=job, span=span, clip=clip, share=share, room=room, reuse=self.reuse
        )

    @property
    def is_done(self) -> bool:
        """Whether it has failed, or is read and all of its answers are written."""
        return bool(self.failed) or (self.is_read and all(each.part or each.error for each in self.answers))


def finished(videos: deque[PendingVideo]) -> Iterator[Outcome]:
    """Take those off the front of `videos` that are done."""
    while videos and videos[0].is_done:
        video = videos.popleft()
        item, key = video.work.item, video.work.key
        error = next((answer.error for answer in video.answers if answer.error), None)
        if error and not video.failed:
            video.failed = failure(item, key, "generate", error)
        parts = tuple(answer.part for answer in video.answers if answer.part)
        yield video.failed or Captioned(item=item, key=key, parts=parts)
