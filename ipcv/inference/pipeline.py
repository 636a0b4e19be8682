"""The stages of an answer: a clip is encoded, a question put into the language model's cache, the answer written."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from ipcv.answer import FrameBatch, Token, Warned
from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.shapes import linear_layers
from ipcv.architecture.visual import Visual
from ipcv.encodings.encoded import Encoded
from ipcv.families import check_needs, find_language
from ipcv.inference.clock import Clock
from ipcv.inference.frame_encoder import FrameEncoder
from ipcv.inference.generate import Chooser, Decoding, decode, pieces, prefill
from ipcv.inference.retry import ShortageError, shortages
from ipcv.limits.budget import Share
from ipcv.media.clip import Clip
from ipcv.models.loading import Loaded, SmallFiles
from ipcv.models.prompt import Prompt, build_prompt, check_text
from ipcv.options import PIXELS, Options


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptContents:
    """A prompt's videos, and how many of their visual tokens it has."""

    parts: tuple[Encoded, ...]  # the videos, in the prompt's order
    visual: tuple[int, ...]  # visual tokens of each in the prompt
    length: int  # tokens of the prompt
    reducer_flops: int  # spent on choosing the tokens that stay
    warnings: tuple[str, ...]

    def shortage(self) -> ShortageError:
        """The error that there is not enough memory for this prompt."""
        return ShortageError(frame_batch=min(part.frame_batch for part in self.parts), visual=sum(self.visual))


@dataclass(frozen=True, kw_only=True, eq=False)
class Prefilled:
    """A question about videos in the language model's cache, ready for the answer."""

    contents: PromptContents
    decoding: Decoding


@dataclass(frozen=True, eq=False)
class _ReducedPart:
    """The visual tokens of one part that the prompt has."""

    visual: Visual
    stays: Tensor  # [n] whether each of the part's tokens, or one merged into its place, is there: on the CPU
    flops: int  # spent on choosing them
    warnings: tuple[str, ...]


class Pipeline:
    """A model under one set of options. Each stage returns a value, and needs only those of the stages before it.

    >>> pipeline = Pipeline(model.loaded, Options())
    >>> clock = pipeline.clock()
    >>> encoded = returned(pipeline.encode(clip, clock))
    >>> with pipeline.pruned():
    ...     prefilled = pipeline.prefill([encoded], "What colour is the circle?", clock)
    ...     print("".join(token.text for token in pipeline.write(prefilled, clock)))

    Raises `ValueError` for options, or for `questions`, that do not fit the model, and `ModelError` for a method that
    its family does not allow.
    """

    def __init__(self, model: Loaded, options: Options, *questions: str) -> None:
        self.model = model
        self.network: Any = model.network
        self.patches = check_options(
            options, SmallFiles(self.network.config, model.tokenizer, model.patches), questions
        )
        self.options, warnings = _settled(options, self.network.config.get_text_config())
        self.warnings = (*_about_quality(options), *warnings)

    def clock(self) -> Clock:
        """A clock for the device on which the model lies."""
        return Clock(self.network.device)

    def encoder(self, clock: Clock, frame_batch: int | None = None) -> FrameEncoder:
        """The vision encoder for one clip, so many frames at a time; None: as the options say."""
        return FrameEncoder(
            self.network, self.patches, self.options.compressor, clock, frame_batch or self.options.frame_batch
        )

    def encode(
        self,
        clip: Clip,
        clock: Clock,
        *,
        share: Share | None = None,
        frame_batch: int | None = None,
        done: int = 0,
        total: int | None = None,
    ) -> Generator[FrameBatch | Warned, None, Encoded]:
        """Encode a clip and close it, `frame_batch` frames at a time. Errors as of `FrameEncoder.encode`."""
        total = len(clip.times) if total is None else total
        return (yield from self.encoder(clock, frame_batch).encode(clip, share=share, done=done, total=total))

    def prompt(self, parts: Sequence[Encoded], question: str) -> Prompt:
        """The prompt that asks `question` about `parts`, with a place for each of their visual tokens."""
        spans = [part.span for part in parts]
        model = self.model
        return build_prompt(model.tokenizer, self.network.config, question, spans, self.options.system, model.processor)

    def prefill(self, parts: Sequence[Encoded], question: str, clock: Clock) -> Prefilled:
        """Put `question` about `parts` into a cache of its own, with the visual tokens that the reducer leaves.

        Call it within `pruned`, as `write` for the same answer. Raises `ShortageError` where memory is too little.
        """
        network = self.network
        frame_batch, asked = min(part.frame_batch for part in parts), sum(len(part.visual) for part in parts)
        with shortages(lambda: ShortageError(frame_batch=frame_batch, visual=asked)):
            prompt = self.prompt(parts, question)
            with clock.stage("prefill"):
                reduced = [self._reduced(part) for part in parts]
                rows = prompt.rows(torch.cat([each.stays for each in reduced]))
        contents = PromptContents(
            parts=tuple(parts),
            visual=tuple(len(each.visual) for each in reduced),
            length=len(rows),
            reducer_flops=sum(each.flops for each in reduced),
            warnings=(*(each for part in reduced for each in part.warnings), *self._context_warnings(len(rows))),
        )
        with shortages(contents.shortage), clock.stage("prefill"):
            spans = [part.span for part in parts]
            positions = find_language(network.config.model_type).positions(network, prompt.ids, prompt.types, spans)
            visual = Visual.cat([each.visual for each in reduced])
            decoding = prefill(network, prompt.only(rows), visual, positions[..., rows].to(network.device))
        return Prefilled(contents=contents, decoding=decoding)

    def _reduced(self, part: Encoded) -> _ReducedPart:
        """The visual tokens of a part that the prompt has."""
        reducer = part.share.reducer(self.options.reducer) if part.share else self.options.reducer
        visual, stays = part.visual.to(self.network.device), torch.ones(len(part.visual), dtype=torch.bool)
        if reducer is None or not reducer.reduces:
            return _ReducedPart(visual, stays, 0, ())
        (count, width), pictures = visual.tokens.shape, part.grid[0]
        reused = part.reused_tokens.to(self.network.device)
        left = reducer(visual.tokens.view(pictures, -1, width), reused.view(pictures, -1))
        stays = torch.zeros_like(stays).index_fill(0, left.donor.cpu(), True)
        return _ReducedPart(
            visual=Visual(left.tokens, visual.deepstack[:, left.donor]),
            stays=stays,
            flops=reducer.flops(pictures, count // pictures, width),
            warnings=reducer.warnings(count, len(left.donor)),
        )

    def pruned(self) -> AbstractContextManager[None]:
        """Install the pruner, if any, in the language model for the length of the `with`."""
        return self.options.pruner(self.network) if self.options.pruner else nullcontext()

    def _context_warnings(self, length: int) -> tuple[str, ...]:
        """A warning if the prompt and the answer do not fit into what the model was trained for."""
        context, new = self.network.config.get_text_config().max_position_embeddings, self.options.max_new_tokens
        if length + new <= context:
            return ()
        return (
            f"{length} prompt tokens and up to {new} new ones are more than the model's context of {context}: "
            "its answer may be wrong; fewer frames or pixels would fit",
        )

    def write(self, prefilled: Prefilled, clock: Clock) -> Generator[Token, None, str]:
        """Write the answer token by token; returns all of it.

        Raises `ShortageError` where memory is too little for the first piece of text.
        """
        contents = prefilled.contents
        chooser = Chooser(self.network, self.options.temperature, self.options.seed)
        tokens = decode(self.network, prefilled.decoding, chooser, self.options.max_new_tokens)
        text = pieces(self.model.tokenizer, tokens)
        answer = ""
        while True:
            with nullcontext() if answer else shortages(contents.shortage), clock.stage("generate"):
                piece = next(text, None)
            if piece is None:
                return answer
            answer += piece
            yield Token(text=piece)


def check_options(options: Options, model: SmallFiles, questions: Sequence[str] = ()) -> FrameSettings:
    """The frame settings of a model under `options`.

    Raises `ValueError` for options, or for `questions`, that do not fit the model, and `ModelError` for a method that
    its family does not allow.
    """
    for question in questions or ("?",):
        check_text(model.tokenizer, question, options.system)
    _check_methods(options, model.config)
    return model.patches.limited(options.max_pixels or PIXELS, strict=options.max_pixels is not None)


def _check_methods(options: Options, config: PretrainedConfig) -> None:
    """Raise `ModelError` for a method that the family does not allow, `ValueError` for one that the depth does not."""
    language = find_language(config.model_type)
    for method in (options.compressor, options.reducer, options.pruner):
        if method:
            check_needs(type(method).__name__, method.needs, config.model_type)
    if options.compressor:
        options.compressor.check(language.vision(config))
    if options.pruner:
        options.pruner.check(language.decoder(config.get_text_config()))


def _about_quality(options: Options) -> Iterator[str]:
    """A warning that a quality is an estimate."""
    if (asked := getattr(options.compressor, "quality", None)) is not None:
        yield (
            f"quality={asked} goes by an estimate that was fitted to DINOv2-small and not calibrated for this model: "
            "use `baseline` to measure what it gives"
        )


def _settled(options: Options, text: PretrainedConfig) -> tuple[Options, tuple[str, ...]]:
    """The options with nothing left open for this language model, and a warning where that is not the usual."""
    if options.pruner is None:
        return options, ()
    pruner, warning = options.pruner.settled(text.num_hidden_layers, linear_layers(text))
    return replace(options, pruner=pruner), (warning,) if warning else ()
