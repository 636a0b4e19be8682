"""Videos of a batch between encoder and answer: their questions, where the answers go, and when they are done."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ipcv.batch.plan import Captioned, Cause, Failed, Outcome, Part, WorkItem, failure
from ipcv.batch.presets import parse
from ipcv.encodings.encoded import Encoded
from ipcv.inference.generate import Decoding
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.budget import Budget
from ipcv.media.segments import Span


@dataclass(kw_only=True, eq=False)
class AnswerSlot:
    """Where one answer of a video goes."""

    part: Part | None = None
    error: Exception | None = None  # why there is none

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, or will be none."""
        return self.part is not None or self.error is not None


@dataclass(kw_only=True, eq=False)
class PendingAnswer:
    """One question about one clip, from the prompt in its cache to the answer; then it is let go, with its tensors."""

    slot: AnswerSlot
    run: Pipeline
    encoded: Encoded
    span: Span
    question: str
    structured: bool
    decoding: Decoding
    budget: Budget  # of visual tokens
    lowered: tuple[tuple[Cause, str], ...]  # as in `Part`
    data: dict[str, Any] | None = None
    problem: str | None = None


@dataclass(kw_only=True, eq=False)
class PendingVideo:
    """A video under way."""

    work: WorkItem
    slots: list[AnswerSlot] = field(default_factory=list)
    failed: Failed | None = None
    is_read: bool = False  # whether all of its slots are there


def finished(videos: deque[PendingVideo]) -> Iterator[Outcome]:
    """Take those off the front that are done."""
    while videos and (videos[0].failed or (videos[0].is_read and all(slot.is_done for slot in videos[0].slots))):
        video = videos.popleft()
        work = video.work
        error = next((slot.error for slot in video.slots if slot.error), None)
        if error and not video.failed:
            video.failed = failure(work.item, work.key, "generate", error)
        parts = tuple(slot.part for slot in video.slots if slot.part)
        yield video.failed or Captioned(item=work.item, key=work.key, parts=parts)


def part(ask: PendingAnswer) -> Part:
    """The answer with all that is known about it, once it is written."""
    encoded, run = ask.encoded, ask.run
    lowered = (message for _, message in ask.lowered)
    warnings = tuple(dict.fromkeys((*run.model.warnings, *lowered, *encoded.warnings, *run.warnings)))
    answer = run.result(ask.question, warnings, budget=ask.budget)
    start, end = ask.span
    return Part(start=start, end=end, answer=answer, data=ask.data, problem=ask.problem, lowered=ask.lowered)


def parsed(ask: PendingAnswer) -> bool:
    """Whether the answer is the JSON object that was asked for; leaves it, or what is wrong with it."""
    found, ask.problem = parse(ask.run.answer)
    ask.data = found.model_dump() if found else None
    return found is not None
