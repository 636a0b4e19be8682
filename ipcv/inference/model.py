"""A loaded model: `ask` it about videos, `stream` what happens on the way, or `encode` a video for later."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from threading import Lock

import torch

from ipcv.answer import Answer, Baseline, Event, Final, Token, Warned
from ipcv.architecture.preprocess import FrameSettings
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Cached
from ipcv.errors import OUT_OF_MEMORY, MemoryExhaustedError, is_about_memory, memory_errors
from ipcv.families import check_needs, find_language
from ipcv.inference.opening import Input, OpenedInputs, Opener
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.retry import less
from ipcv.inference.savings import compare
from ipcv.limits.budget import Limit
from ipcv.limits.context import measure_by, picture_text, room_for
from ipcv.limits.measure import BudgetPlanner, PictureText
from ipcv.limits.room import Room
from ipcv.media.clip import Clip
from ipcv.media.sources import Source, TimedFrames
from ipcv.models.facts import ModelFacts
from ipcv.models.loading import Loaded
from ipcv.models.prompt import check_text
from ipcv.options import PIXELS, Options

__all__ = ["OUT_OF_MEMORY", "PIXELS", "Model", "TimedFrames"]


class Model:
    """A loaded model. One question at a time: what compresses it is installed while a question is under way."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._busy = Lock()

    @property
    def facts(self) -> ModelFacts:
        """Which model this is, and how it is held in memory."""
        return self.loaded.facts

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to know about the model itself."""
        return self.loaded.warnings

    def ask(self, video: Input | Sequence[Input], question: str, options: Options | None = None) -> Answer:
        """The answer to `question` about a video or image file, frames in memory (`TimedFrames`), or what `encode`
        returned; or about several of these, which the prompt numbers ("Video 1: ") if the model's template can.

        Raises `VideoError` if a video cannot be read, `MemoryExhaustedError`, and `ValueError` for settings or text
        that make no sense.

        >>> load("demo").ask("clip.mp4", "What colour is the circle?").answer
        """
        *_, last = self.stream(video, question, options)
        if not isinstance(last, Final):
            raise TypeError(f"a stream ends with Final, not {last}")
        return last.answer

    def stream(
        self,
        video: Input | Sequence[Input],
        question: str,
        options: Options | None = None,
        *,
        cache: EncodingCache | None = None,
    ) -> Iterator[Event]:
        """Everything that happens on the way to the answer, as it happens; the last event is `Final`.

        From a `cache`, the encoding of a file is taken if it is there, and put there if not. Errors as in `ask`.
        Closing the iterator early stops the work and leaves the model as it was.
        """
        options = options or Options()
        patches = self.check(options, question)
        asked = [video] if isinstance(video, Source | Encoded) else list(video)
        if not asked:
            raise ValueError("there is no video to ask about: give one at least")
        if options.baseline and any(isinstance(each, Encoded) for each in asked):
            raise ValueError("a baseline encodes the video again: give the video itself")
        with self.busy(), memory_errors(OUT_OF_MEMORY):
            yield from self._attempts(asked, question, options, patches, None if options.baseline else cache)

    def encode(self, video: Source, options: Options | None = None) -> Encoded:
        """The video through the encoder, to be asked about any number of times under the same options.

        Errors as in `ask`.

        >>> model = load("demo")
        >>> encoded = model.encode("clip.mp4")
        >>> [model.ask(encoded, question).answer for question in questions]
        """
        options = options or Options()
        patches = self.check(options)
        with self.busy(), memory_errors(OUT_OF_MEMORY), torch.no_grad():
            opened = Opener(options, self.measure(options, patches)).open([video], self.limit(options, ["?"]))
            run = Pipeline(self.loaded, patches, options)
            for clip, share in zip(opened.inputs, opened.shares, strict=True):
                if isinstance(clip, Clip):
                    with clip:
                        for _ in run.encode(clip, share):
                            pass
            return run.parts[0]

    def check(self, options: Options, *questions: str) -> FrameSettings:
        """How frames are cut into patches under `options`. Raises `ValueError` for what does not fit this model."""
        for question in questions or ("?",):
            check_text(self.loaded.tokenizer, question, options.system)
        self._check_depths(options)
        return self.loaded.patches.limited(options.max_pixels or PIXELS, strict=options.max_pixels is not None)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold the model for the length of the `with`. Raises `ValueError` if it is held already."""
        if not self._busy.acquire(blocking=False):
            raise ValueError("this model is answering another question: finish or close that stream first")
        try:
            yield
        finally:
            self._busy.release()

    @torch.no_grad()
    def _attempts(
        self,
        asked: Sequence[Input],
        question: str,
        options: Options,
        patches: FrameSettings,
        cache: EncodingCache | None,
    ) -> Iterator[Event]:
        """`_stream`, and again with less room where memory runs out before anything is answered."""
        limit = self.limit(options, [question], videos=len(asked))
        room = Room(patches=patches, limit=limit, frame_batch=options.frame_batch)
        told: list[str] = []
        while True:
            measure = self.measure(options, room.patches)
            kept = None if room.tries else cache  # what memory ran out over is not what the settings would have
            cached = Cached(kept, fingerprint.model(self.facts), options, measure) if kept else None
            opened = _open(asked, Opener(options, measure, cached), room)
            run, is_answering = Pipeline(self.loaded, room.patches, options), False
            run.frames.batch = room.frame_batch
            try:
                for event in self._stream(opened, question, run, cached, told):
                    is_answering = is_answering or isinstance(event, Token)
                    yield event
            except Exception as error:
                yield from _warn(told, run.frames.warnings)
                fewer = None if is_answering or not is_about_memory(error) else less(room, run, opened)
                if fewer is None:
                    raise
            else:
                return
            del run  # with all that it encoded
            room, message = fewer
            yield from _warn(told, (message,))

    def _stream(
        self, opened: OpenedInputs, question: str, run: Pipeline, cached: Cached | None, told: list[str]
    ) -> Iterator[Event]:
        options = run.options
        yield from _warn(told, (*self.warnings, *opened.warnings()))
        if options.baseline:
            first = next(each for each in opened.inputs if isinstance(each, Clip))
            run.frames.warm_up(first.size, min(options.frame_batch, len(first.times)))
        for event in run.events(opened.inputs, question, opened.shares, cached.keep if cached else None):
            yield event
            yield from _warn(told, (*opened.warnings(), *run.frames.warnings, *run.warnings))
        baseline = self._baseline(opened, question, run) if options.baseline else None
        yield from _warn(told, opened.warnings())
        yield Final(answer=run.result(question, tuple(told), baseline, opened.budget))

    def _baseline(self, opened: OpenedInputs, question: str, run: Pipeline) -> Baseline:
        """The same once more, uncompressed."""
        plain = Pipeline(
            self.loaded,
            run.frames.patches,
            replace(run.options, compressor=None, reducer=None, pruner=None, baseline=False),
        )
        for _ in plain.events(opened.inputs, question, opened.shares):
            pass
        visual, truth = run.visual.tokens, plain.visual.tokens
        return compare(run.answer, run.stages(), visual, plain.answer, plain.stages(), truth)

    def measure(self, options: Options, patches: FrameSettings) -> BudgetPlanner:
        """By what videos are measured under `options`, with frames cut into `patches`."""
        return measure_by(options, patches, self._picture_text)

    def limit(self, options: Options, questions: Sequence[str], *, videos: int = 1) -> Limit:
        """What a prompt of so many `videos` has room for, whichever of the `questions` it asks."""
        return room_for(self.loaded, options, questions, videos, self._picture_text)

    @cached_property
    def _picture_text(self) -> PictureText:
        return picture_text(self.loaded.tokenizer, self.facts.family, self.loaded.processor)

    def _check_depths(self, options: Options) -> None:
        network = self.loaded.network
        family, language = network.config.model_type, find_language(network.config.model_type)
        for method in (options.compressor, options.reducer, options.pruner):
            if method:
                check_needs(type(method).__name__, method.needs, family)
        if options.compressor:
            options.compressor.check(language.vision(network.config))
        if options.pruner:
            options.pruner.check(language.decoder(network.config.get_text_config()))


def _open(asked: Sequence[Input], opener: Opener, room: Room) -> OpenedInputs:
    try:
        return opener.open(asked, room.limit)
    except ValueError as error:
        if not room.tries:
            raise
        raise MemoryExhaustedError(OUT_OF_MEMORY) from error  # there is no room for the least that there can be


def _warn(told: list[str], known: Iterable[str]) -> Iterator[Warned]:
    """Events for what is `known` and not yet `told`."""
    for message in known:
        if message not in told:
            told.append(message)
            yield Warned(message=message)
