"""One question answered once under one set of options: read, preprocess, encode, prefill, generate."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipcv.answer import (
    Answer,
    Baseline,
    Event,
    FinishReason,
    FrameBatch,
    Frames,
    Opened,
    Options,
    Stage,
    StageDone,
    StageName,
    Token,
)
from ipcv.encoded import Encoded
from ipcv.families import find_encoder, find_language
from ipcv.generate import Chooser, Decoding, decode, pieces, prefill
from ipcv.load import Loaded
from ipcv.preprocess import FrameSettings
from ipcv.probe import VideoFacts
from ipcv.prompt import Prompt, build_prompt
from ipcv.reducers import EVS
from ipcv.savings import Clock, Work, savings, stages
from ipcv.tokens import kept_count
from ipcv.tome import ToMe
from ipcv.video import Clip
from ipcv.visual import Visual


class Run:
    """The stages of one answer as a stream of events; what they found stays on the object."""

    def __init__(self, model: Loaded, patches: FrameSettings, options: Options) -> None:
        self.model = model
        self.network: Any = model.network
        self.language = find_language(model.network.config.model_type)
        self.patches = patches
        self.options = options
        self.clock = Clock(model.network.device)
        self.work = Work()
        self.grid = [0, 0, 0]  # temporal patches, rows, columns of all that was encoded
        self.times: tuple[float, ...]  # of the frames
        self.visual: Visual  # what the encoder gave
        self.stays: Tensor  # [n] those of them that the language model was given, as a mask
        self.answer = ""
        self.finish_reason: FinishReason = "stop"
        self.warnings: list[str] = []

    def events(self, clip: Clip, question: str) -> Iterator[Event]:
        """Everything that happens, in order; closes `clip` once its frames are encoded."""
        yield Opened(video=clip.facts, frames=len(clip.times))
        with clip:
            yield from self.encode(clip)
        yield from self.answer_prompt(self.prompt(question))

    def events_about(self, encoded: Encoded, question: str) -> Iterator[Event]:
        """The same about a video that is encoded already."""
        self.take(encoded)
        yield Opened(video=encoded.video, frames=len(encoded.times))
        yield from self.stages_done("read", "preprocess", "encode")
        yield from self.answer_prompt(self.prompt(question))

    def take(self, encoded: Encoded) -> None:
        """Go on from `encoded` as if it had been encoded here; its seconds are taken over."""
        self.visual, self.grid = encoded.visual.to(self.network.device), list(encoded.grid)
        self.times, self.work.frames = encoded.times, len(encoded.times)
        self.work.size = encoded.grid[1:]
        self.work.passes = [list(frames) for frames in encoded.passes]
        self.work.kept = [list(frames) for frames in encoded.kept]
        self.clock.seconds = dict(encoded.seconds)

    def encoded(self, clip: Clip) -> Encoded:
        """What `encode(clip)` has left, to be asked about again."""
        return Encoded(
            visual=self.visual,
            grid=(self.grid[0], self.grid[1], self.grid[2]),
            video=clip.facts,
            times=clip.times,
            size=clip.size,
            passes=tuple(map(tuple, self.work.passes)),
            kept=tuple(map(tuple, self.work.kept)),
            warnings=clip.warnings,
            seconds={name: self.clock.seconds[name] for name in ("read", "preprocess", "encode")},
        )

    def prompt(self, question: str) -> Prompt:
        """`question` about what was encoded."""
        patches, step = self.grid[0], len(self.times) // self.grid[0]
        middles = [(self.times[i * step] + self.times[(i + 1) * step - 1]) / 2 for i in range(patches)]
        config, tokens = self.network.config, len(self.visual) // patches
        return build_prompt(self.model.tokenizer, config, question, middles, tokens, self.options.system)

    def warm_up(self, size: tuple[int, int], frames: int) -> None:
        """Run a frame batch, plain and compressed, and a short prompt for nothing: what is timed next is not cold."""
        pixels = torch.zeros(frames, *size, 3, dtype=torch.uint8, device=self.network.device)
        patches, grid = self.patches.patches(pixels)
        for compressed in (nullcontext(), self.compressed()):
            with compressed:
                self.language.encode(self.network, patches, grid)
        self.network(input_ids=torch.zeros(1, 8, dtype=torch.long, device=self.network.device))

    def compressed(self) -> AbstractContextManager[list[Tensor]]:
        """The encoder as the options want it; gives the kept tokens per frame of each pass, none if all are."""
        compressor = self.options.compressor
        return compressor(self.network) if compressor else nullcontext([])

    def encode(self, clip: Clip) -> Iterator[Event]:
        """Frame batch by frame batch through the compressed encoder; leaves `visual`."""
        self.check_kept(clip)
        embeddings: list[Visual] = []
        self.times = clip.times
        with self.compressed() as kept:
            for frames in clip:
                before = self.clock.seconds.get("encode", 0.0)
                embeddings.append(self.encode_batch(frames))
                patches = sum(self.work.passes[-1])
                yield FrameBatch(
                    frames_done=self.work.frames,
                    frames=len(clip.times),
                    tokens_in=patches,
                    tokens_computed=int(kept[-1].sum()) if kept else patches,
                    seconds=self.clock.seconds["encode"] - before,
                )
            self.work.kept = [each.tolist() for each in kept]
        self.visual = Visual.cat(embeddings)
        self.clock.seconds = {"read": clip.read_seconds, **self.clock.seconds}
        yield from self.stages_done("read", "preprocess", "encode")

    def check_kept(self, clip: Clip) -> None:
        """Raise `ValueError` before anything is encoded if too little would be kept of the smallest frame batch."""
        compressor, settings = self.options.compressor, self.patches
        frames = len(clip.times) % self.options.frame_batch or min(self.options.frame_batch, len(clip.times))
        patches = frames // settings.temporal_patch_size * clip.size[0] * clip.size[1] // settings.patch_size**2
        if isinstance(compressor, ToMe):
            times = frames // settings.temporal_patch_size
            compressor.merges(patches // times, len(find_encoder(self.network).blocks))
        elif compressor and not compressor.quality and kept_count(patches, compressor.keep) < 1:
            raise ValueError(f"keep={compressor.keep} of a batch of {patches} patches keeps none: raise keep")

    def encode_batch(self, frames: np.ndarray) -> Visual:
        """What the encoder makes of `frames` uint8 `[frames, height, width, 3]`."""
        with self.clock.stage("preprocess"):
            pixels = torch.from_numpy(frames).to(self.network.device)
            patches, (time, rows, columns) = self.patches.patches(pixels)
        with self.clock.stage("encode"):
            visual = self.language.encode(self.network, patches, (time, rows, columns))
        self.work.frames += len(frames)
        self.work.passes.append(find_encoder(self.network).frames([(time, rows, columns)]))
        self.work.size = (rows, columns)
        self.grid = [self.grid[0] + time, rows, columns]
        return visual

    def reduce(self) -> None:
        """Choose the visual tokens of the prompt; leaves `stays`."""
        reducer, count = self.options.reducer, len(self.visual)
        if reducer is None or not reducer.reduces:
            self.stays = torch.ones(count, dtype=torch.bool)
            self.work.visual = count
            return
        self.stays = reducer.choose(self.visual.tokens.unflatten(0, (self.grid[0], -1))).flatten()
        self.work.visual = int(self.stays.sum())
        self.work.left_out = count - self.work.visual
        if isinstance(reducer, EVS) and self.work.visual > kept_count(count, reducer.keep):
            self.warnings.append(
                f"EVS keeps {self.work.visual} of {count} visual tokens, more than keep={reducer.keep}: "
                "it leaves the first frames whole"
            )

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
            rows = prompt.rows(self.stays)
        self.work.length = len(rows)
        self.check_context()
        grid = (self.grid[0], self.grid[1], self.grid[2])
        with self.clock.stage("prefill"):
            positions = self.language.positions(network, prompt.ids, prompt.types, grid, self.times)[..., rows]
            visual = self.visual[self.stays.to(network.device)]
            return prefill(network, prompt.only(rows), visual, positions.to(network.device))

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
            self.warnings.append(f"the answer was cut off at {limit} new tokens: raise --max-new-tokens")
        self.work.chosen = len(decoding.tokens) + (not is_cut)

    def result(
        self,
        question: str,
        video: VideoFacts,
        times: tuple[float, ...],
        size: tuple[int, int],
        warnings: tuple[str, ...],
        baseline: Baseline | None = None,
    ) -> Answer:
        """The answer with all that is known about it, once it is written."""
        done = self.stages()
        return Answer(
            question=question,
            answer=self.answer,
            finish_reason=self.finish_reason,
            model=self.model.facts,
            video=video,
            frames=Frames(times=times, height=size[0], width=size[1], visual_tokens=self.work.visual),
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
