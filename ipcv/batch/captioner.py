"""Many videos, each read, encoded once and asked about; answers are written several at a time.

`Captioner.run` is the engine of `ipcv caption`: one video that fails is one `Failed`, the others go on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from ipcv.batch.dispatch import MAX_DOWNLOAD, DispatchedVideo, Dispatcher
from ipcv.batch.pending import AnswerSlot, PendingAnswer, PendingVideo, finished, parsed, part
from ipcv.batch.plan import FailedStage, Outcome, Plan, Started, WorkItem, failure
from ipcv.batch.prepared_clip import PreparedClip, prefilled
from ipcv.batch.presets import second_try
from ipcv.encodings.cache import EncodingCache
from ipcv.errors import OUT_OF_MEMORY, VideoError, memory_errors
from ipcv.inference.generate import Chooser, pieces
from ipcv.inference.generate_batch import decode_together
from ipcv.inference.model import Model
from ipcv.inference.pipeline import Pipeline
from ipcv.media.segments import Span
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
        max_download: int = MAX_DOWNLOAD,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.model, self.plan, self.readers, self.batch_size = model, plan, readers, batch_size
        self._listing = Dispatcher(model, plan, cache, max_download)
        self._waiting: list[PendingAnswer] = []  # prompts in their caches

    @property
    def identity(self) -> dict[str, Any]:
        """The model's, as for `describe`."""
        return self._listing.identity

    def run(self, works: Iterable[WorkItem]) -> Iterator[Outcome]:
        """What becomes of every one of `works`, in order; `Started` comes as its encoding begins."""
        videos: deque[PendingVideo] = deque()
        with self.model.busy(), torch.no_grad():
            listed: deque[tuple[WorkItem, DispatchedVideo | None]] = deque()
            with closing(_generator(self.readers.read(self._jobs(works, listed)))) as readings:
                for reading in readings:
                    work, found = listed.popleft()
                    video = PendingVideo(work=work, failed=work.failed)
                    videos.append(video)
                    if found:
                        yield Started(item=work.item)
                        self._take(video, found, reading)
                    yield from finished(videos)
            self._write()
            yield from finished(videos)

    def _jobs(
        self, works: Iterable[WorkItem], listed: deque[tuple[WorkItem, DispatchedVideo | None]]
    ) -> Iterator[ReadJob | None]:
        """What there is to read for each of `works`; nothing for those that fail or are in the cache."""
        for work in works:
            found = None if work.failed else self._listing.look_up(work)
            listed.append((work, found))
            yield found.job if found and not found.encoded else None

    def _take(self, video: PendingVideo, found: DispatchedVideo, reading: Iterable[ClipRead] | None) -> None:
        """Encode a video clip by clip, and put its questions on the waiting list, which is worked off when it is full.

        Whatever goes wrong is that video's failure.
        """
        work, piece = video.work, None
        try:
            for given in found.clips(reading):
                piece = found.piece(self.model, given, self._make_room)
                for index, question in enumerate(self.plan.asked(work.item)):
                    ask = self._ask(piece, given[0], question, structured=self.plan.structured and index == 0)
                    video.slots.append(ask.slot)
                    self._waiting.append(ask)
                    if len(self._waiting) >= self.batch_size:
                        self._write()
                piece = None
        except Exception as error:
            self._waiting = [ask for ask in self._waiting if ask.slot not in video.slots]
            stage: FailedStage = "read" if piece is None or isinstance(error, VideoError) else piece.stage
            video.failed = failure(work.item, work.key, stage, error)
        video.is_read = True

    def _ask(self, piece: PreparedClip, span: Span, question: str, *, structured: bool) -> PendingAnswer:
        run, encoded, decoding = piece.prompted(question)
        return PendingAnswer(
            slot=AnswerSlot(),
            run=run,
            encoded=encoded,
            span=span,
            question=question,
            structured=structured,
            decoding=decoding,
            budget=piece.budget,
            lowered=piece.lowered(),
        )

    def _make_room(self) -> bool:
        """Write the answers of all that wait; whether any did."""
        is_any = bool(self._waiting)
        self._write()
        return is_any

    def _write(self) -> None:
        """Write the answers of all that wait. What goes wrong with one goes into its slot."""
        asks, self._waiting = self._waiting, []
        self._decode(asks)
        again = []
        for ask in asks:
            if ask.structured and not ask.slot.error and not parsed(ask):
                again += self._second(ask)
            elif not ask.slot.error:
                ask.slot.part = part(ask)
        self._decode(again)
        for ask in again:
            if not ask.slot.error:
                parsed(ask)
                ask.slot.part = part(ask)

    def _second(self, ask: PendingAnswer) -> list[PendingAnswer]:
        """The question once more, in other words, for the same slot."""
        question = second_try(ask.problem or "")
        run = Pipeline(self.model.loaded, ask.run.frames.patches, ask.run.options)
        try:
            decoding = prefilled(run, ask.encoded, question)
        except Exception as error:
            ask.slot.error = error
            return []
        return [replace(ask, run=run, question=question, decoding=decoding)]

    def _decode(self, asks: list[PendingAnswer]) -> None:
        """Answers for all of `asks` together; where that fails, for lack of memory say, one by one."""
        if not asks:
            return
        try:
            self._decode_together(asks)
        except Exception as error:
            if len(asks) == 1:
                asks[0].slot.error = error
                return
            for ask in asks:
                ask.decoding.tokens.clear()
                self._decode([ask])

    def _decode_together(self, asks: list[PendingAnswer]) -> None:
        options, network = self.plan.options, self.model.loaded.network
        decodings = [ask.decoding for ask in asks]
        choosers = [Chooser(network, options.temperature, options.seed) for _ in decodings]
        with memory_errors(OUT_OF_MEMORY), asks[0].run.clock.stage("generate"):
            decode_together(network, decodings, choosers, options.max_new_tokens)
        seconds = asks[0].run.clock.seconds["generate"] / len(asks)
        for ask, decoding in zip(asks, decodings, strict=True):
            ask.run.clock.seconds["generate"] = seconds  # its share of what they took together
            ask.run.answer = "".join(pieces(self.model.loaded.tokenizer, iter(decoding.tokens)))
            ask.run.written(decoding)


def _generator(readings: Iterator[Any]) -> Any:
    """`readings`, which is a generator and can be closed."""
    return readings
