"""Many videos, each read, encoded once and asked about; answers are written several at a time.

`Captioner.run` is the engine of `ipcv caption`: one video that fails is one `Failed`, the others go on.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ipcv.answer import FrameBatch, Warned
from ipcv.batch.dispatch import Dispatcher
from ipcv.batch.pending import PendingAnswer, PendingVideo, finished
from ipcv.batch.plan import FailedStage, Outcome, Plan, Started, WorkItem, failure
from ipcv.batch.prepared_clip import PreparedClip
from ipcv.batch.prompts import second_try
from ipcv.encodings.cache import EncodingCache
from ipcv.errors import OUT_OF_MEMORY, VideoError, memory_errors
from ipcv.inference.clock import Clock
from ipcv.inference.generate import Chooser, pieces
from ipcv.inference.generate_batch import decode_together
from ipcv.inference.model import Model
from ipcv.inference.pipeline import Prefilled
from ipcv.inference.retry import Room, ShortageError, attempts, gathered, no_other_try
from ipcv.media.remote.access import Access
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.readers.pool import Readers


class Captioner:
    """A model, a plan and open `readers`. Raises `ValueError` if they do not go together.

    >>> with Readers(2, prefetch=4) as readers:
    ...     captioner = Captioner(model, Plan(), readers)
    ...     for outcome in captioner.run(describe(captioner.plan, captioner.identity, item) for item in items):
    ...         ...
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        readers: Readers,
        *,
        batch_size: int = 8,
        cache: EncodingCache | None = None,
        access: Access | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.model, self.plan, self.readers, self.batch_size = model.loaded, plan, readers, batch_size
        self._dispatcher = Dispatcher(model.loaded, plan, cache, access or Access())
        self._waiting: list[PendingAnswer] = []  # prompts in their caches

    @property
    def identity(self) -> dict[str, Any]:
        """The model's identity, as `describe` takes it."""
        return self._dispatcher.identity

    def run(self, works: Iterable[WorkItem]) -> Iterator[Outcome]:
        """Yield what becomes of each of `works`, in order; `Started` comes as its encoding begins."""
        videos: deque[PendingVideo] = deque()
        with self.model.in_use(), torch.no_grad():
            ahead: deque[PendingVideo] = deque()  # looked up, and read by now or soon
            with closing(self.readers.read(self._jobs(works, ahead))) as readings:
                for reading in readings:
                    video = ahead.popleft()
                    videos.append(video)
                    if not video.failed:
                        yield Started(item=video.work.item)
                        self._ask_all(video, reading)
                    yield from finished(videos)
            self._write()
            yield from finished(videos)

    def _jobs(self, works: Iterable[WorkItem], ahead: deque[PendingVideo]) -> Iterator[ReadJob | None]:
        """The reading to do for each of `works`; None for those that fail or are in the cache."""
        for work in works:
            video = self._dispatcher.look_up(work)
            ahead.append(video)
            yield None if video.encoded else video.job

    def _ask_all(self, video: PendingVideo, reading: Iterable[ClipRead] | None) -> None:
        """Encode a video clip by clip, and ask all questions about each. Whatever goes wrong is the video's failure."""
        work, clip = video.work, None
        try:
            for clip in video.clips(reading):
                for index, question in enumerate(self.plan.asked(work.item)):
                    answer = self._ask(clip, question, structured=self.plan.structured and index == 0)
                    video.answers.append(answer)
                    self._waiting.append(answer)
                    if len(self._waiting) >= self.batch_size:
                        self._write()
                clip = None
        except Exception as error:
            self._waiting = [answer for answer in self._waiting if answer not in video.answers]
            stage: FailedStage = "read" if clip is None or isinstance(error, VideoError) else clip.stage
            video.failed = failure(work.item, work.key, stage, error)
        video.is_read = True

    def _ask(self, clip: PreparedClip, question: str, *, structured: bool) -> PendingAnswer:
        """Put a question about a clip into its cache, with less of the clip where memory runs out."""
        events, (prefilled, clock) = gathered(attempts(clip.room, partial(self._attempt, clip, question)))
        clip.shortages += [event.message for event in events if isinstance(event, Warned)]
        return PendingAnswer(
            span=clip.span,
            question=question,
            structured=structured,
            budget=clip.budget,
            lowered=clip.lowered(),
            pipeline=clip.pipeline,
            prefilled=prefilled,
            clock=clock,
        )

    def _attempt(
        self, clip: PreparedClip, question: str, room: Room
    ) -> Generator[FrameBatch | Warned, None, tuple[Prefilled, Clock]]:
        """Try once; where memory runs out, once more without the prompts that wait for their answers."""
        try:
            return (yield from clip.prefill(question, room))
        except ShortageError as shortage:
            if not self._waiting:
                raise
            room = replace(room, frame_batch=shortage.frame_batch)
        self._write()  # outside of `except`: the traceback there holds what did not fit
        return (yield from clip.prefill(question, room))

    def _write(self) -> None:
        """Write the answers of all that wait. An error with one is kept with that answer."""
        answers, self._waiting = self._waiting, []
        self._decode(answers)
        again = []
        for answer in answers:
            if not answer.error:
                data, problem = answer.parsed()
                if problem and self._ask_again(answer, problem):
                    again.append(answer)
                elif not answer.error:
                    answer.finish(data, problem)
        self._decode(again)
        for answer in again:
            if not answer.error:
                answer.finish(*answer.parsed())

    def _ask_again(self, answer: PendingAnswer, problem: str) -> bool:
        """Ask once more, in other words, where an answer was not the JSON object that it should be; if that works."""
        if answer.prefilled is None:
            raise ValueError("an answer that is written is not asked again")
        question, clock = second_try(problem), answer.pipeline.clock()
        parts = answer.prefilled.contents.parts
        clock.add(parts[0].seconds)
        try:
            with no_other_try(), answer.pipeline.pruned():
                answer.asked_again(question, answer.pipeline.prefill(parts, question, clock), clock)
        except Exception as error:
            answer.fail(error)
        return not answer.error

    def _decode(self, answers: list[PendingAnswer]) -> None:
        """Write `answers` together; where that fails, for lack of memory say, one by one."""
        if not answers:
            return
        try:
            self._decode_together(answers)
        except Exception as error:
            if len(answers) == 1:
                answers[0].fail(error)
                return
            for answer in answers:
                if answer.prefilled:
                    answer.prefilled.decoding.tokens.clear()
                self._decode([answer])

    def _decode_together(self, answers: list[PendingAnswer]) -> None:
        options, network = self.plan.options, self.model.network
        decodings = [answer.prefilled.decoding for answer in answers if answer.prefilled]
        choosers = [Chooser(network, options.temperature, options.seed) for _ in decodings]
        clock = Clock(network.device)
        with memory_errors(OUT_OF_MEMORY), clock.stage("generate"):
            decode_together(network, decodings, choosers, options.max_new_tokens)
        seconds = clock.seconds["generate"] / len(answers)  # the share of each in what they took together
        for answer, decoding in zip(answers, decodings, strict=True):
            answer.clock.add({"generate": seconds})
            answer.clock.peak |= clock.peak
            answer.text = "".join(pieces(self.model.tokenizer, iter(decoding.tokens)))
