"""Many videos, each read, encoded once and asked about; answers are written several at a time.

`Captioner.run` is the engine of `ipcv caption`: one video that fails is one `Failed`, the others go on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from ipcv import identity
from ipcv.answer import Options
from ipcv.cache import EncodingCache
from ipcv.encoded import Encoded
from ipcv.errors import VideoError, memory_errors
from ipcv.generate import Chooser, pieces
from ipcv.plan import FailedStage, Outcome, Plan, Started, Work, failure
from ipcv.presets import second_try
from ipcv.qa import OUT_OF_MEMORY, Model
from ipcv.reading import Readers
from ipcv.readjob import ReadJob
from ipcv.run import Run
from ipcv.segments import Span
from ipcv.together import decode_together
from ipcv.underway import Ask, Slot, Video, finished, parsed, part
from ipcv.video import Clip

MAX_DOWNLOAD = 4 << 30  # bytes


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
        if plan.options.max_visual_tokens is not None:
            raise ValueError("captions have no max_visual_tokens: their frames are chosen while they are read")
        self.model, self.plan, self.readers, self.cache = model, plan, readers, cache
        self.patches = model.check(plan.options, *plan.questions)
        self.identity = identity.model(model.facts)
        self.batch_size, self.max_download = batch_size, max_download
        self._waiting: list[Ask] = []  # prompts in their caches

    def run(self, works: Iterable[Work]) -> Iterator[Outcome]:
        """What becomes of every one of `works`, in order; `Started` comes as its encoding begins."""
        videos: deque[Video] = deque()
        with self.model.busy(), torch.no_grad():
            listed: deque[tuple[Work, Encoded | None]] = deque()
            with closing(_generator(self.readers.read(self._jobs(works, listed)))) as readings:
                for reading in readings:
                    work, encoded = listed.popleft()
                    video = Video(work=work)
                    videos.append(video)
                    if video.work.failed:
                        video.failed = video.work.failed
                    else:
                        yield Started(item=video.work.item)
                        self._take(video, self._whole(work, encoded) if encoded else reading or ())
                    yield from finished(videos)
            self._write()
            yield from finished(videos)

    def _jobs(self, works: Iterable[Work], listed: deque[tuple[Work, Encoded | None]]) -> Iterator[ReadJob | None]:
        """What there is to read for each of `works`; nothing for those that fail or are in the cache."""
        for work in works:
            listed.append((work, self._cached(work)))
            yield None if work.failed or listed[-1][1] else self._job(work)

    def _job(self, work: Work) -> ReadJob:
        return ReadJob(
            video=work.item.video,
            sampling=self.plan.settings(work.item).sampling,
            segments=self.plan.segments,
            patches=self.patches,
            frame_batch=self.plan.options.frame_batch,
            max_download=self.max_download,
        )

    def _take(self, video: Video, clips: Iterable[tuple[Span, Clip | Encoded]]) -> None:
        """Encode a video clip by clip, and put its questions on the waiting list, which is worked off when it is full.

        Whatever goes wrong is that video's failure.
        """
        work = video.work
        stage: FailedStage = "read"
        try:
            options = self.plan.settings(work.item)
            for span, clip in clips:
                stage = "encode"
                encoded = clip if isinstance(clip, Encoded) else self._encode(work, options, clip)
                for index, question in enumerate(self.plan.asked(work.item)):
                    structured = self.plan.structured and index == 0
                    ask = self._ask(encoded, options, span, question, structured=structured)
                    video.slots.append(ask.slot)
                    self._waiting.append(ask)
                    if len(self._waiting) >= self.batch_size:
                        self._write()
                stage = "read"
        except Exception as error:
            self._waiting = [ask for ask in self._waiting if ask.slot not in video.slots]
            kind: FailedStage = "read" if isinstance(error, VideoError) else stage
            video.failed = failure(work.item, work.key, kind, error)
        video.is_read = True

    def _cached(self, work: Work) -> Encoded | None:
        """The encoding of a whole video, if it is in the cache."""
        if self.cache is None or work.content is None or self.plan.segments:
            return None
        return self.cache.load(self._encoding_key(work), work.item.video)

    def _whole(self, work: Work, encoded: Encoded) -> list[tuple[Span, Clip | Encoded]]:
        sampling, over = self.plan.settings(work.item).sampling, encoded.video.duration
        return [((sampling.start or 0.0, min(over, sampling.end or over)), encoded)]

    def _encoding_key(self, work: Work) -> str:
        return identity.of_encoding(work.content or {}, self.identity, self.plan.settings(work.item))

    def _encode(self, work: Work, options: Options, clip: Clip) -> Encoded:
        run = Run(self.model.loaded, self.patches, options)
        with memory_errors(OUT_OF_MEMORY):
            for _ in run.encode(clip):
                pass
        encoded = run.parts[0]
        encoded = replace(encoded, video=replace(encoded.video, path=work.item.video))
        if self.cache and work.content is not None and not self.plan.segments and not run.frames.warnings:
            self.cache.store(self._encoding_key(work), encoded)
        return encoded

    def _ask(self, encoded: Encoded, options: Options, span: Span, question: str, *, structured: bool) -> Ask:
        run = Run(self.model.loaded, self.patches, options)
        run.take(encoded)
        with memory_errors(OUT_OF_MEMORY), run.pruned():
            decoding = run.prefill(run.prompt(question))
        return Ask(
            slot=Slot(),
            run=run,
            encoded=encoded,
            span=span,
            question=question,
            structured=structured,
            decoding=decoding,
        )

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

    def _second(self, ask: Ask) -> list[Ask]:
        """The question once more, in other words, for the same slot."""
        question = second_try(ask.problem or "")
        try:
            again = self._ask(ask.encoded, ask.run.options, ask.span, question, structured=True)
        except Exception as error:
            ask.slot.error = error
            return []
        again.slot = ask.slot
        return [again]

    def _decode(self, asks: list[Ask]) -> None:
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

    def _decode_together(self, asks: list[Ask]) -> None:
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
