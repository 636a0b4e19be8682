"""Ask a video a question: `load` a model, then `ask` it, or `stream` what happens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from ipcv import identity
from ipcv.answer import Answer, Baseline, Event, Final, ModelFacts, Options, StageDone, Warned
from ipcv.cache import EncodingCache
from ipcv.encoded import Encoded
from ipcv.errors import memory_errors
from ipcv.families import find_encoder
from ipcv.hub import DEFAULT_MODEL
from ipcv.load import Dtype, Loaded, Quant, read_model
from ipcv.preprocess import FrameSettings
from ipcv.prompt import check_text
from ipcv.run import Run
from ipcv.savings import compare
from ipcv.tome import ToMe
from ipcv.video import Clip, clip_from_frames, open_video

PIXELS = 448 * 448  # per frame, unless asked for otherwise
OUT_OF_MEMORY = "out of memory while answering: lower --max-frames, --max-pixels or --frame-batch, or try --quant 4bit"


@dataclass(frozen=True, eq=False)
class TimedFrames:
    """A video that is in memory already; all of its frames are used."""

    frames: np.ndarray  # uint8 RGB [n, height, width, 3]
    times: Sequence[float] | None = None  # when each is shown, in seconds, ascending; None: two per second


Source = str | Path | TimedFrames | Clip


def load(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
) -> "Model":
    """Load a model that answers questions about videos.

    `name` is "demo" (bundled), a folder, or a repository on the Hugging Face hub, fetched on first use; `revision` is
    a branch, tag or commit there. `device` "auto" takes the accelerator if there is one; `dtype` "auto" is bfloat16
    there (float16 on GPUs without it) and float32 on the CPU. `quant` "4bit" or "8bit" quantises the language model's
    linear layers through bitsandbytes and nothing else ("auto": 4 bits on CUDA and XPU, none elsewhere). `offline`
    makes no network call.

    Raises `ModelError` if the model cannot be had or is of an unsupported family, `MemoryExhaustedError` if it does
    not fit, `ValueError` for settings that make no sense.
    """
    return Model(read_model(name, revision=revision, device=device, dtype=dtype, quant=quant, offline=offline))


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

    def ask(self, video: Source | Encoded, question: str, options: Options | None = None) -> Answer:
        """The answer to `question` about a video file, frames in memory (`TimedFrames`), or what `encode` returned.

        Raises `VideoError` if the video cannot be read, `MemoryExhaustedError`, and `ValueError` for settings or text
        that make no sense.

        >>> load("demo").ask("clip.mp4", "What colour is the circle?").answer
        """
        *_, last = self.stream(video, question, options)
        if not isinstance(last, Final):
            raise TypeError(f"a stream ends with Final, not {last}")
        return last.answer

    def stream(
        self,
        video: Source | Encoded,
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
        with self.busy(), memory_errors(OUT_OF_MEMORY):
            if cache and isinstance(video, str | Path) and not options.baseline:
                key = identity.of_encoding(identity.content(str(video)), identity.model(self.facts), options)
                if found := cache.load(key, str(video)):
                    yield from self._about(found, question, options, patches)
                else:
                    yield from self._stream(video, question, options, patches, partial(cache.store, key))
            elif isinstance(video, Encoded):
                yield from self._about(video, question, options, patches)
            else:
                yield from self._stream(video, question, options, patches)

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
            run = Run(self.loaded, patches, options)
            with _open(video, options, patches) as clip:
                for _ in run.encode(clip):
                    pass
            return run.encoded(clip)

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
    def _about(self, video: Encoded, question: str, options: Options, patches: FrameSettings) -> Iterator[Event]:
        if options.baseline:
            raise ValueError("a baseline encodes the video again: give the video itself")
        run = Run(self.loaded, patches, options)
        warnings: list[str] = []
        yield from _warn(warnings, (*self.warnings, *video.warnings))
        for event in run.events_about(video, question):
            yield event
            yield from _warn(warnings, run.warnings)
        yield Final(answer=run.result(question, video.video, video.times, video.size, tuple(warnings)))

    @torch.no_grad()
    def _stream(
        self,
        video: Source,
        question: str,
        options: Options,
        patches: FrameSettings,
        keep: Callable[[Encoded], None] = lambda _: None,
    ) -> Iterator[Event]:
        clip = _open(video, options, patches)
        run = Run(self.loaded, patches, options)
        warnings: list[str] = []
        yield from _warn(warnings, (*self.warnings, *clip.warnings))
        if options.baseline:
            run.warm_up(clip.size, min(options.frame_batch, len(clip.times)))
        for event in run.events(clip, question):
            if isinstance(event, StageDone) and event.stage.name == "encode":
                keep(run.encoded(clip))
            yield event
            yield from _warn(warnings, (*clip.warnings, *run.warnings))
        baseline = self._baseline(clip, question, run) if options.baseline else None
        yield from _warn(warnings, clip.warnings)
        answer = run.result(question, clip.facts, clip.times, clip.size, tuple(warnings), baseline)
        yield Final(answer=answer)

    def _baseline(self, clip: Clip, question: str, run: Run) -> Baseline:
        """The same once more, uncompressed."""
        plain = Run(
            self.loaded, run.patches, replace(run.options, compressor=None, reducer=None, pruner=None, baseline=False)
        )
        for _ in plain.events(clip, question):
            pass
        visual, truth = run.visual.tokens, plain.visual.tokens
        return compare(run.answer, run.stages(), visual, plain.answer, plain.stages(), truth)

    def _check_depths(self, options: Options) -> None:
        network = self.loaded.network
        if options.compressor:
            encoder = find_encoder(network)
            options.compressor.check_depth(len(encoder.blocks))
            if isinstance(options.compressor, ToMe):
                options.compressor.check_encoder(encoder, network.config.model_type)
        if options.pruner:
            options.pruner.steps(len(network.get_decoder().layers))


def _open(video: Source, options: Options, patches: FrameSettings) -> Clip:
    if isinstance(video, Clip):
        return video
    batch, multiple = options.frame_batch, patches.temporal_patch_size
    if isinstance(video, str | Path):
        return open_video(video, options.sampling, resize=patches.resize, frame_batch=batch, multiple=multiple)
    if not isinstance(video, TimedFrames):
        raise TypeError(f"a video is a path or ipcv.TimedFrames, not {type(video).__name__}")
    return clip_from_frames(video.frames, video.times, resize=patches.resize, frame_batch=batch, multiple=multiple)


def _warn(told: list[str], known: Iterable[str]) -> Iterator[Warned]:
    """Events for what is `known` and not yet `told`."""
    for message in known:
        if message not in told:
            told.append(message)
            yield Warned(message=message)
