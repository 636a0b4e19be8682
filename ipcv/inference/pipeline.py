"""One question answered once under one set of options: read, preprocess, encode, prefill, generate."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import starmap
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from ipcv.answer import (
    Answer,
    Baseline,
    Event,
    FinishReason,
    Frames,
    Opened,
    Stage,
    StageDone,
    StageName,
    Token,
    VisualInput,
)
from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.shapes import linear_layers
from ipcv.architecture.visual import Visual
from ipcv.compression.reducers.reducer import Reduced
from ipcv.encodings.encoded import Encoded
from ipcv.families import find_language
from ipcv.inference.clock import Clock
from ipcv.inference.frame_encoder import STAGES, FrameEncoder
from ipcv.inference.generate import Chooser, Decoding, decode, pieces, prefill
from ipcv.inference.savings import WorkCounts, savings, stages
from ipcv.limits.budget import Budget, Share
from ipcv.media.clip import Clip
from ipcv.models.loading import Loaded
from ipcv.models.prompt import Prompt, build_prompt
from ipcv.options import Options


class Pipeline:
    """The stages of one answer as a stream of events; what they found stays on the object."""

    def __init__(self, model: Loaded, patches: FrameSettings, options: Options) -> None:
        self.model = model
        self.network: Any = model.network
        self.options, self.warnings = _settled(options, self.network.config.get_text_config())
        self.clock = Clock(model.network.device)
        self.frames = FrameEncoder(model, patches, options, self.clock)
        self.work = WorkCounts()
        self.parts: list[Encoded] = []  # what there is to see, in the prompt's order
        self.left: list[Reduced] = []  # per part, what the language model was given of its embeddings
        self.answer = ""
        self.finish_reason: FinishReason = "stop"

    @property
    def visual(self) -> Visual:
        """All that was encoded."""
        return Visual.cat([part.visual for part in self.parts])

    def events(
        self,
        inputs: Sequence[Clip | Encoded],
        question: str,
        shares: Sequence[Share | None] | None = None,
        keep: Callable[[Encoded], None] | None = None,
    ) -> Iterator[Event]:
        """Everything that happens, in order; closes each clip once it is encoded, and then calls `keep` with it.

        `shares` are what each of `inputs` may have of the budget of visual tokens.
        """
        for index, each in enumerate(inputs):
            video = each.video if isinstance(each, Encoded) else each.facts
            yield Opened(video=video, frames=len(each.times), index=index, videos=len(inputs))
        clips = [each for each in inputs if isinstance(each, Clip)]
        self.frames.total = sum(len(clip.times) for clip in clips)
        for clip in clips:
            self.frames.check(clip)
        for each, share in zip(inputs, shares or [None] * len(inputs), strict=True):
            if isinstance(each, Encoded):
                self.take(replace(each, share=share))
                continue
            with each:
                yield from self.encode(each, share)
            if keep and not self.frames.warnings:  # in smaller batches it is another encoding
                keep(self.parts[-1])
        yield from self.stages_done(*STAGES)
        yield from self.answer_prompt(self.prompt(question))

    def take(self, encoded: Encoded) -> None:
        """Add `encoded` to the prompt as if it had been encoded here; its seconds are taken over."""
        for name in STAGES:
            self.clock.seconds[name] = self.clock.seconds.get(name, 0.0) + encoded.seconds[name]
        self.add(encoded)

    def encode(self, clip: Clip, share: Share | None = None) -> Iterator[Event]:
        """A clip through the encoder, frame batch by frame batch, and into the prompt."""
        self.frames.check(clip)
        yield from self.frames.encode(clip)
        self.add(replace(self.frames.encoded, share=share))

    def add(self, part: Encoded) -> None:
        """Put `part` into the prompt."""
        self.parts.append(replace(part, visual=part.visual.to(self.network.device)))
        self.work.frames += sum(map(len, part.passes)) * self.frames.patches.temporal_patch_size
        self.work.passes += map(list, part.passes)
        self.work.sizes += [part.grid[1:]] * len(part.passes)
        self.work.kept += map(list, part.kept or part.passes)

    def prompt(self, question: str) -> Prompt:
        """`question` about what was encoded."""
        shown = [part.shown for part in self.parts]
        model = self.model
        return build_prompt(
            model.tokenizer, model.network.config, question, shown, self.options.system, model.processor
        )

    def reduce(self) -> None:
        """Choose the visual tokens of the prompt; leaves `left`."""
        self.left = [self.reduced(part) for part in self.parts]
        self.work.visual = sum(len(left.donor) for left in self.left)
        self.work.left_out = sum(len(part.visual) for part in self.parts) - self.work.visual

    def reduced(self, part: Encoded) -> Reduced:
        """A part's visual tokens for the prompt."""
        reducer = part.share.reducer(self.options.reducer) if part.share else self.options.reducer
        count, width = part.visual.tokens.shape
        if reducer is None or not reducer.reduces:
            return Reduced(part.visual.tokens, torch.arange(count, device=part.visual.tokens.device))
        pictures = part.grid[0]
        left = reducer(part.visual.tokens.view(pictures, -1, width))
        self.work.leaving_out += reducer.flops(pictures, count // pictures, width)
        self.warnings += reducer.warnings(count, len(left.donor))
        return left

    def answer_prompt(self, prompt: Prompt) -> Iterator[Event]:
        """Prefill, then the answer's pieces as they come; leaves `answer` and `finish_reason`."""
        with self.pruned():
            decoding = self.prefill(prompt)
            yield from self.stages_done("prefill")
            yield from self.write(decoding)
        yield from self.stages_done("generate")

    def pruned(self) -> AbstractContextManager[None]:
        """The language model as the options want it."""
        pruner = self.options.pruner
        return pruner(self.network) if pruner else nullcontext()

    def prefill(self, prompt: Prompt) -> Decoding:
        """The prompt in a cache of its own. It has a place for every visual token, whatever stays of them."""
        network = self.network
        with self.clock.stage("prefill"):
            self.reduce()
            pairs = list(zip(self.parts, self.left, strict=True))
            rows = prompt.rows(torch.cat([_mask(len(part.visual), left.donor) for part, left in pairs]))
        self.work.length = len(rows)
        self.check_context()
        with self.clock.stage("prefill"):
            shown = [part.shown for part in self.parts]
            positions = find_language(network.config.model_type).positions(network, prompt.ids, prompt.types, shown)
            visual = Visual.cat([Visual(left.tokens, part.visual.deepstack[:, left.donor]) for part, left in pairs])
            return prefill(network, prompt.only(rows), visual, positions[..., rows].to(network.device))

    def check_context(self) -> None:
        """Warn if the prompt and the answer do not fit into what the model was trained for."""
        context = self.network.config.get_text_config().max_position_embeddings
        if self.work.length + self.options.max_new_tokens > context:
            self.warnings.append(
                f"{self.work.length} prompt tokens and up to {self.options.max_new_tokens} new ones are more than the "
                f"model's context of {context}: its answer may be wrong; fewer frames or pixels would fit"
            )

    def write(self, decoding: Decoding) -> Iterator[Token]:
        """The answer, piece by piece."""
        limit, tokenizer = self.options.max_new_tokens, self.model.tokenizer
        chooser = Chooser(self.network, self.options.temperature, self.options.seed)
        text = pieces(tokenizer, decode(self.network, decoding, chooser, limit))
        while True:
            with self.clock.stage("generate"):
                piece = next(text, None)
            if piece is None:
                break
            self.answer += piece
            yield Token(text=piece)
        self.written(decoding)

    def written(self, decoding: Decoding) -> None:
        """Note how the answer ended; leaves `finish_reason`."""
        limit = self.options.max_new_tokens
        is_cut = len(decoding.tokens) == limit
        if is_cut:
            self.finish_reason = "length"
            self.warnings.append(f"the answer was cut off at {limit} new tokens: raise max_new_tokens")
        self.work.chosen = len(decoding.tokens) + (not is_cut)

    def result(
        self,
        question: str,
        warnings: tuple[str, ...],
        baseline: Baseline | None = None,
        budget: Budget | None = None,
    ) -> Answer:
        """The answer with all that is known about it, once it is written."""
        done = self.stages()
        videos = tuple(starmap(_visual_input, zip(self.parts, self.left, strict=True)))
        return Answer(
            question=question,
            answer=self.answer,
            finish_reason=self.finish_reason,
            model=self.model.facts,
            video=videos[0].video,
            frames=videos[0].frames,
            videos=videos,
            budget=budget,
            settings=self.options,
            stages=done,
            savings=savings(self.network.config, self.options, done, self.work, baseline),
            warnings=warnings,
        )

    def stages(self) -> tuple[Stage, ...]:
        """The stages that are done."""
        return stages(self.network.config, self.options, self.clock, self.work)

    def stages_done(self, *names: StageName) -> Iterator[StageDone]:
        """Events for the stages called `names`."""
        yield from (StageDone(stage=stage) for stage in self.stages() if stage.name in names)


def _settled(options: Options, text: PretrainedConfig) -> tuple[Options, list[str]]:
    """The options for a language model with this configuration, nothing left open, and what there is to know of it."""
    if options.pruner is None:
        return options, []
    pruner, warning = options.pruner.settled(text.num_hidden_layers, linear_layers(text))
    return replace(options, pruner=pruner), [warning] if warning else []


def _mask(count: int, places: Tensor) -> Tensor:
    """A mask `[count]` on the CPU of these places."""
    mask = torch.zeros(count, dtype=torch.bool)
    mask[places.cpu()] = True
    return mask


def _visual_input(part: Encoded, left: Reduced) -> VisualInput:
    height, width = part.size
    return VisualInput(
        kind=part.kind,
        video=part.video,
        frames=Frames(times=part.times, height=height, width=width, visual_tokens=len(left.donor)),
        patches=sum(map(sum, part.passes)),
        patches_computed=sum(map(sum, part.kept or part.passes)),
        budget=part.share,
    )
