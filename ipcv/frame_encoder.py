"""The encoder's half of an answer: a clip's frames, batch by batch, to visual embeddings."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipcv.answer import FrameBatch, Options, StageName
from ipcv.encoded import Encoded
from ipcv.families import find_encoder, find_language
from ipcv.grids import Grid
from ipcv.load import Loaded
from ipcv.preprocess import FrameSettings
from ipcv.savings import Clock
from ipcv.tokens import kept_count
from ipcv.tome import ToMe
from ipcv.video import Clip
from ipcv.visual import Visual

STAGES: tuple[StageName, ...] = ("read", "preprocess", "encode")


class FrameEncoder:
    """The compressed vision encoder of one run, for one clip after the other."""

    def __init__(self, model: Loaded, patches: FrameSettings, options: Options, clock: Clock) -> None:
        self.network: Any = model.network
        self.language = find_language(self.network.config.model_type)
        self.patches = patches
        self.options = options
        self.clock = clock
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
            for frames in clip:
                since = self.clock.seconds["encode"]
                visual, batch = self.encode_batch(frames)
                embeddings.append(visual)
                passes.append(tuple(find_encoder(self.network).frames([batch])))
                grid = (grid[0] + batch[0], *batch[1:])
                self.done += len(frames)
                yield FrameBatch(
                    frames_done=self.done,
                    frames=self.total,
                    tokens_in=sum(passes[-1]),
                    tokens_computed=int(kept[-1].sum()) if kept else sum(passes[-1]),
                    seconds=self.clock.seconds["encode"] - since,
                )
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
            warnings=clip.warnings,
            seconds={name: self.clock.seconds[name] - at for name, at in zip(STAGES, before, strict=True)},
            kind=clip.kind,
        )

    def encode_batch(self, frames: np.ndarray) -> tuple[Visual, Grid]:
        """What the encoder makes of `frames` uint8 `[frames, height, width, 3]`, and their grid of patches."""
        with self.clock.stage("preprocess"):
            pixels = torch.from_numpy(frames).to(self.network.device)
            patches, grid = self.patches.patches(pixels)
        with self.clock.stage("encode"):
            visual = self.language.encode(self.network, patches, grid)
        return visual, grid

    def check(self, clip: Clip) -> None:
        """Raise `ValueError` before anything is encoded if too little would be kept of the smallest frame batch.

        Or if the model cannot be asked about what the clip is.
        """
        if clip.kind == "image" and self.language.image is None:
            raise ValueError(f"models of family {self.network.config.model_type!r} are asked about videos only here")
        compressor, settings = self.options.compressor, self.patches
        frames = len(clip.times) % self.options.frame_batch or min(self.options.frame_batch, len(clip.times))
        patches = frames // settings.temporal_patch_size * clip.size[0] * clip.size[1] // settings.patch_size**2
        if isinstance(compressor, ToMe):
            times = frames // settings.temporal_patch_size
            compressor.merges(patches // times, len(find_encoder(self.network).blocks))
        elif compressor and not compressor.quality and kept_count(patches, compressor.keep) < 1:
            raise ValueError(f"keep={compressor.keep} of a batch of {patches} patches keeps none: raise keep")

    def warm_up(self, size: tuple[int, int], frames: int) -> None:
        """Run a frame batch, plain and compressed, and a short prompt for nothing: what is timed next is not cold."""
        pixels = torch.zeros(frames, *size, 3, dtype=torch.uint8, device=self.network.device)
        patches, grid = self.patches.patches(pixels)
        for compressed in (nullcontext(), self.compressed()):
            with compressed:
                self.language.encode(self.network, patches, grid)
        self.network(input_ids=torch.zeros(1, 8, dtype=torch.long, device=self.network.device))
