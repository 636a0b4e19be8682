"""A loaded model: `ask` it about videos, `stream` what happens on the way, or `encode` a video for later."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import torch

from ipcv.answer import Answer, Event, Final, FrameBatch, Warned
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Reuse
from ipcv.errors import OUT_OF_MEMORY, memory_errors
from ipcv.inference.answering import Answering
from ipcv.inference.opening import Input, Opener
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.retry import Room, attempts, gathered
from ipcv.limits.context import PromptLimits
from ipcv.media.sources import Source
from ipcv.models.facts import ModelFacts
from ipcv.models.loading import Loaded
from ipcv.options import Options
from ipcv.readers.single import FileReader


class Model:
    """A loaded model. One question at a time: what compresses it is installed while a question is under way.

    Files are read by a process of its own, so that one that crashes a decoder, takes too much memory or never ends
    can be given up. It starts with the first file, does not run the caller's script, and ends with the model.
    """

    def __init__(self, loaded: Loaded, reader: FileReader | None = None) -> None:
        self.loaded = loaded
        self._reader = reader or FileReader()
        self._limits = PromptLimits(loaded)

    @property
    def facts(self) -> ModelFacts:
        """Which model this is, and how it is held in memory."""
        return self.loaded.facts

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the model itself."""
        return self.loaded.warnings

    def ask(self, video: Input | Sequence[Input], question: str, options: Options | None = None) -> Answer:
        """Answer `question` about a video or image file, frames in memory (`TimedFrames`), or what `encode` returned.

        Several of these can be asked about at once; the prompt numbers them ("Video 1: ") if the model's template can.
        Raises `VideoError` if a video cannot be read, `MemoryExhaustedError`, and `ValueError` for options or text
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
        """Yield everything that happens on the way to the answer, as it happens; the last event is `Final`.

        From a `cache`, the encoding of a file is taken if it is there, and put there if not. Errors as in `ask`.
        Closing the iterator early stops the work and leaves the model as it was.
        """
        options = options or Options()
        pipeline = Pipeline(self.loaded, options, question)
        asked = [video] if isinstance(video, Source | Encoded) else list(video)
        if not asked:
            raise ValueError("there is no video to ask about: give one at least")
        if options.baseline and any(isinstance(each, Encoded) for each in asked):
            raise ValueError("a baseline encodes the video again: give the video itself")
        opener = self._opener(pipeline, None if options.baseline else cache)
        limit = self._limits.limit(options, [question], videos=len(asked))
        answering = Answering(pipeline, opener, asked, question)
        with self.loaded.in_use(), memory_errors(OUT_OF_MEMORY):
            yield from answering.events(Room(patches=pipeline.patches, limit=limit, frame_batch=options.frame_batch))

    def encode(self, video: Source, options: Options | None = None) -> Encoded:
        """Encode a video, to ask about it any number of times under the same options. Errors as in `ask`.

        Where memory runs out it starts again with fewer pixels, as `ask` does; the result's warnings say so.

        >>> model = load("demo")
        >>> encoded = model.encode("clip.mp4")
        >>> [model.ask(encoded, question).answer for question in questions]
        """
        options = options or Options()
        pipeline = Pipeline(self.loaded, options)
        opener = self._opener(pipeline)

        def attempt(room: Room) -> Generator[FrameBatch | Warned, None, Encoded]:
            opened = opener.open([video], room)
            (clip,), (share,) = opened.inputs, opened.shares
            if isinstance(clip, Encoded):
                return clip
            return (yield from pipeline.encode(clip, pipeline.clock(), share=share, frame_batch=room.frame_batch))

        room = Room(patches=pipeline.patches, limit=self._limits.limit(options, ["?"]), frame_batch=options.frame_batch)
        with self.loaded.in_use(), memory_errors(OUT_OF_MEMORY), torch.no_grad():
            events, encoded = gathered(attempts(room, attempt))
        told = (event.message for event in events if isinstance(event, Warned))
        return replace(encoded, warnings=tuple(dict.fromkeys((*encoded.warnings, *told))))

    def _opener(self, pipeline: Pipeline, cache: EncodingCache | None = None) -> Opener:
        options = pipeline.options
        planner = self._limits.planner(options, pipeline.patches)
        reuse = Reuse(cache, fingerprint.model(self.facts), options, planner, self.loaded.width) if cache else None
        return Opener(options, planner, self._reader, reuse)
