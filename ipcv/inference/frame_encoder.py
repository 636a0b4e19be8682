"""The vision encoder's part of an answer: a clip's frames become visual embeddings, batch by batch."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ipcv.answer import FrameBatch, StageName, Warned
from ipcv.architecture.grids import Grid
from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.visual import Visual, reused_tokens
from ipcv.compression.compressors.compressor import Compressor, Kept
from ipcv.encodings.encoded import Encoded
from ipcv.errors import is_about_memory
from ipcv.families import find_encoder, find_language
from ipcv.inference.clock import Clock
from ipcv.inference.retry import ShortageError, shortages
from ipcv.limits.budget import Share
from ipcv.media.clip import Clip

STAGES: tuple[StageName, ...] = ("read", "preprocess", "encode")


class FrameEncoder:
    """The compressed vision encoder for one clip; halves the frame batch where memory runs out."""

    def __init__(
        self,
        network: PreTrainedModel,
        patches: FrameSettings,
        compressor: Compressor | None,
        clock: Clock,
        frame_batch: int,
    ) -> None:
        self.network, self.patches, self.compressor, self.clock = network, patches, compressor, clock
        self.language = find_language(network.config.model_type)
        self.frame_batch = frame_batch  # frames at a time from here on
        self.warnings: list[str] = []

    def compressed(self) -> AbstractContextManager[Kept]:
        """Install the compressor, if any; yields the kept tokens per frame of each pass, none if all are."""
        return self.compressor(self.network, video=True) if self.compressor else nullcontext(Kept())

    def encode(
        self, clip: Clip, *, share: Share | None, done: int, total: int
    ) -> Generator[FrameBatch | Warned, None, Encoded]:
        """Encode `clip` and close it; yields an event per frame batch, and a warning where a batch is halved.

        `done` of `total` frames of a question were encoded before. Raises `ShortageError` where memory is too little
        for the smallest batch, and errors of `check` before anything is encoded.
        """
        self.check(clip)
        spent = {name: self.clock.seconds.setdefault(name, 0.0) for name in STAGES}
        embeddings: list[Visual] = []
        grids: list[Grid] = []
        with clip, shortages(lambda: self._shortage(clip)), self.compressed() as kept:
            before = spent["encode"]
            for found in chain.from_iterable(self._batches(frames, kept) for frames in clip):
                if isinstance(found, Warned):
                    yield found
                    continue
                embeddings.append(found[0])
                grids.append(found[1])
                done += grids[-1][0] * self.patches.temporal_patch_size
                now = self.clock.seconds["encode"]
                yield self._progress(grids[-1], kept, done=done, total=total, seconds=now - before)
                before = now
        visual = Visual.cat(embeddings)
        self.clock.seconds["read"] += clip.read_seconds
        return Encoded(
            visual=visual,
            grid=(sum(time for time, _, _ in grids), *grids[0][1:]),
            video=clip.facts,
            times=clip.times if clip.kind == "video" else clip.times[:1],
            size=clip.size,
            passes=tuple(self._frames(grid) for grid in grids),
            kept=_counts(kept),
            computed=_counts(kept.computed),
            reused_tokens=self._reused(kept.masks, len(visual)),
            expected=tuple(kept.quality),
            warnings=(*clip.warnings, *self.warnings),
            seconds={name: self.clock.seconds[name] - at for name, at in spent.items()},
            frame_batch=self.frame_batch,
            kind=clip.kind,
            share=share,
        )

    def _reused(self, masks: Sequence[Tensor], tokens: int) -> Tensor:
        """Which of so many visual `tokens` were reused: none, or as the `masks` of all passes say."""
        side = self.patches.factor // self.patches.patch_size
        parts = [reused_tokens(mask, side).cpu() for mask in masks]
        return torch.cat(parts) if parts else torch.zeros(tokens, dtype=torch.bool)

    def _shortage(self, clip: Clip) -> ShortageError:
        return ShortageError(frame_batch=self.frame_batch, size=clip.size)

    def _frames(self, grid: Grid) -> tuple[int, ...]:
        """Tokens of each frame in a pass over a batch of this grid."""
        return tuple(find_encoder(self.network).frames([grid]))

    def _progress(self, grid: Grid, kept: Kept, *, done: int, total: int, seconds: float) -> FrameBatch:
        """The event of a batch of this grid, the last that was encoded."""
        tokens = sum(self._frames(grid))
        return FrameBatch(
            frames_done=done,
            frames=total,
            tokens_in=tokens,
            tokens_computed=int(kept[-1].sum()) if kept else tokens,
            tokens_reused=tokens - int(kept.computed[-1].sum()) if kept.computed else 0,
            seconds=seconds,
        )

    def _batches(self, frames: np.ndarray, kept: Kept) -> Iterator[tuple[Visual, Grid] | Warned]:
        """Encode `frames` at once, or in smaller batches from where memory runs out, after a warning."""
        while len(frames):
            batch, passes = frames[: self.frame_batch], len(kept)
            done = None
            try:
                done = self.encode_batch(batch)
            except (MemoryError, RuntimeError) as error:
                if not is_about_memory(error) or not self._can_halve(batch):
                    raise
            if done is None:  # not within `except`: what failed is held by its traceback
                kept.forget(passes)
                yield self._halve(len(batch))
                continue
            yield done
            frames = frames[len(batch) :]

    def _can_halve(self, frames: np.ndarray) -> bool:
        """Whether these frames can be encoded in two halves."""
        size = (frames.shape[1], frames.shape[2])
        half = self._half(len(frames))
        with suppress(ValueError):
            self._check_batch(half, size)
            return half < len(frames)
        return False

    def _half(self, frames: int) -> int:
        """Half of so many frames, in whole temporal patches, one at least."""
        step = self.patches.temporal_patch_size
        return max(frames // 2 // step, 1) * step

    def _halve(self, frames: int) -> Warned:
        """Go on with half as many frames at a time."""
        self.frame_batch = self._half(frames)
        self.warnings.append(
            f"memory ran out with {frames} frames at a time: encoded {self.frame_batch} at a time from there on, and "
            "kept tokens are chosen within these"
        )
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        return Warned(message=self.warnings[-1])

    def encode_batch(self, frames: np.ndarray) -> tuple[Visual, Grid]:
        """The embeddings of `frames` uint8 `[frames, height, width, 3]`, and their grid of patches."""
        with self.clock.stage("preprocess"):
            pixels = torch.from_numpy(frames).to(self.network.device)
            patches, grid = self.patches.patchify(pixels)
        with self.clock.stage("encode"):
            visual = self.language.encode(self.network, patches, grid)
        return visual, grid

    def check(self, clip: Clip) -> None:
        """Raise `ValueError` for an image in a family without images, or if the last batch would keep no token."""
        if clip.kind == "image" and self.language.image_placeholder is None:
            raise ValueError(f"models of family {self.network.config.model_type!r} are asked about videos only here")
        frames = len(clip.times) % self.frame_batch or min(self.frame_batch, len(clip.times))
        self._check_batch(frames, clip.size)

    def _check_batch(self, frames: int, size: tuple[int, int]) -> None:
        """Raise `ValueError` if too little would be kept of a batch of so many frames, of this height and width."""
        if self.compressor:
            side = self.patches.patch_size
            picture = (size[0] // side) * (size[1] // side)
            shape = self.language.vision(self.network.config)
            self.compressor.check_pass(shape, [picture] * (frames // self.patches.temporal_patch_size))


def _counts(passes: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(each.tolist()) for each in passes)
