"""The encoder's half of an answer: a clip's frames, batch by batch, to visual embeddings."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipcv.answer import FrameBatch, StageName
from ipcv.architecture.grids import Grid
from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.visual import Visual
from ipcv.encodings.encoded import Encoded
from ipcv.errors import is_about_memory
from ipcv.families import find_encoder, find_language
from ipcv.inference.clock import Clock
from ipcv.media.clip import Clip
from ipcv.models.loading import Loaded
from ipcv.options import Options

STAGES: tuple[StageName, ...] = ("read", "preprocess", "encode")


class FrameEncoder:
    """The compressed vision encoder of one run, for one clip after the other."""

    def __init__(self, model: Loaded, patches: FrameSettings, options: Options, clock: Clock) -> None:
        self.network: Any = model.network
        self.language = find_language(self.network.config.model_type)
        self.patches = patches
        self.options = options
        self.clock = clock
        self.batch = options.frame_batch  # frames at a time: halved where memory runs out
        self.warnings: list[str] = []
        self.done = 0  # frames
        self.total = 0  # of all clips

    def compressed(self) -> AbstractContextManager[list[Tensor]]:
        """The encoder as the options want it; gives the kept tokens per frame of each pass, none if all are."""
        compressor = self.options.compressor
        return compressor(self.network) if compressor else nullcontext([])

    def encode(self, clip: Clip) -> Iterator[FrameBatch]:
        """Frame batch by frame batch through the encoder; leaves `encoded`."""
        before = [self.clock.seconds.setdefault(name, 0.0) for name in STAGES]
        grid = (0, 0, 0)
        passes: list[tuple[int, ...]] = []
        embeddings: list[Visual] = []
        with self.compressed() as kept:
            since = 0.0
            for visual, batch in chain.from_iterable(self.pieces(frames, kept) for frames in clip):
                embeddings.append(visual)
                passes.append(tuple(find_encoder(self.network).frames([batch])))
                grid = (grid[0] + batch[0], *batch[1:])
                self.done += batch[0] * self.patches.temporal_patch_size
                yield FrameBatch(
                    frames_done=self.done,
                    frames=self.total,
                    tokens_in=sum(passes[-1]),
                    tokens_computed=int(kept[-1].sum()) if kept else sum(passes[-1]),
                    seconds=self.clock.seconds["encode"] - before[-1] - since,
                )
                since = self.clock.seconds["encode"] - before[-1]
            counts = tuple(tuple(each.tolist()) for each in kept)
        self.clock.seconds["read"] += clip.read_seconds
        self.encoded = Encoded(
            visual=Visual.cat(embeddings),
            grid=grid,
            video=clip.facts,
            times=clip.times if clip.kind == "video" else clip.times[:1],
            size=clip.size,
            passes=tuple(passes),
            kept=counts,
            warnings=(*clip.warnings, *self.warnings),
            seconds={name: self.clock.seconds[name] - at for name, at in zip(STAGES, before, strict=True)},
            kind=clip.kind,
        )

    def pieces(self, frames: np.ndarray, kept: list[Tensor]) -> Iterator[tuple[Visual, Grid]]:
        """What the encoder makes of `frames`, and their grids, in one piece as long as memory does not run out."""
        while len(frames):
            piece, passes = frames[: self.batch], len(kept)
            done = None
            try:
                done = self.encode_batch(piece)
            except (MemoryError, RuntimeError) as error:
                if not is_about_memory(error) or not self.can_halve(piece):
                    raise
            if done is None:  # not within `except`: what failed is held by its traceback
                del kept[passes:]
                self.halve(len(piece))
                continue
            yield done
            frames = frames[len(piece) :]

    def can_halve(self, frames: np.ndarray) -> bool:
        """Whether these frames can be encoded in two halves."""
        size = (frames.shape[1], frames.shape[2])
        half = self.half(len(frames))
        with suppress(ValueError):
            self.check_batch(half, size)
            return half < len(frames)
        return False

    def half(self, frames: int) -> int:
        """Half of so many frames, in whole temporal patches, one at least."""
        step = self.patches.temporal_patch_size
        return max(frames // 2 // step, 1) * step

    def halve(self, frames: int) -> None:
        """Go on with half as many frames at a time."""
        self.batch = self.half(frames)
        self.warnings.append(
            f"memory ran out with {frames} frames at a time: encoded {self.batch} at a time from there on, and kept "
            "tokens are chosen within these"
        )
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    def encode_batch(self, frames: np.ndarray) -> tuple[Visual, Grid]:
        """What the encoder makes of `frames` uint8 `[frames, height, width, 3]`, and their grid of patches."""
        with self.clock.stage("preprocess"):
            pixels = torch.from_numpy(frames).to(self.network.device)
            patches, grid = self.patches.patchify(pixels)
        with self.clock.stage("encode"):
            visual = self.language.encode(self.network, patches, grid)
        return visual, grid

    def check(self, clip: Clip) -> None:
        """Raise `ValueError` before anything is encoded if too little would be kept of the smallest frame batch.

        Or if the model cannot be asked about what the clip is.
        """
        if clip.kind == "image" and self.language.image_placeholder is None:
            raise ValueError(f"models of family {self.network.config.model_type!r} are asked about videos only here")
        frames = len(clip.times) % self.options.frame_batch or min(self.options.frame_batch, len(clip.times))
        self.check_batch(frames, clip.size)

    def check_batch(self, frames: int, size: tuple[int, int]) -> None:
        """Raise `ValueError` if too little would be kept of a batch of so many frames, of this height and width."""
        if compressor := self.options.compressor:
            side = self.patches.patch_size
            picture = (size[0] // side) * (size[1] // side)
            shape = self.language.vision(self.network.config)
            compressor.check_pass(shape, [picture] * (frames // self.patches.temporal_patch_size))

    def warm_up(self, size: tuple[int, int], frames: int) -> None:
        """Run a frame batch, plain and compressed, and a short prompt for nothing: what is timed next is not cold."""
        pixels = torch.zeros(frames, *size, 3, dtype=torch.uint8, device=self.network.device)
        patches, grid = self.patches.patchify(pixels)
        for compressed in (nullcontext(), self.compressed()):
            with compressed:
                self.language.encode(self.network, patches, grid)
        self.network(input_ids=torch.zeros(1, 8, dtype=torch.long, device=self.network.device))
