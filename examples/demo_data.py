"""Training scenes of the demo model, rendered once, and the batches that are drawn from them."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from demo_vision import patch_labels
from torch import Tensor
from torch.utils.data import Dataset

from ipcv.scenes import make_scene
from ipcv.world import FPS, TRAINING_SEEDS, Scene

SIDE = 140  # pixels of a training frame
BLOCK = 256  # scenes that a process renders at a time


@dataclass(frozen=True)
class Pool:
    """Rendered scenes: their frames one after the other in a file."""

    frames: np.ndarray  # [all frames, SIDE, SIDE, 3] uint8
    first: np.ndarray  # [scenes + 1] where each scene's frames begin
    scenes: list[Scene]  # without their backgrounds

    @classmethod
    def of(cls, folder: Path, count: int) -> "Pool":
        """The first `count` training scenes, rendered into `folder` unless they are there."""
        done = folder / f"scenes-{count}.pkl"
        if not done.is_file():
            _render(folder, count, done)
        scenes = pickle.loads(done.read_bytes())  # noqa: S301 # written by this script
        first = np.cumsum([0, *(round(scene.seconds * FPS) for scene in scenes)])
        frames = np.memmap(folder / f"frames-{count}.bin", np.uint8, "r", shape=(int(first[-1]), SIDE, SIDE, 3))
        return cls(frames, first, scenes)

    def clip(self, scene: int) -> np.ndarray:
        """All frames of a scene, at two per second."""
        return self.frames[self.first[scene] : self.first[scene + 1]]


def _render(folder: Path, count: int, done: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scenes: list[Scene] = []
    with ProcessPoolExecutor() as workers, (folder / f"frames-{count}.bin").open("wb") as file:
        for frames, plain in workers.map(_render_block, range(0, count, BLOCK), [count] * len(range(0, count, BLOCK))):
            file.write(frames.tobytes())
            scenes += plain
    done.write_bytes(pickle.dumps(scenes))


def _render_block(start: int, count: int) -> tuple[np.ndarray, list[Scene]]:
    scenes = [make_scene(TRAINING_SEEDS[seed]) for seed in range(start, min(count, start + BLOCK))]
    clips = [scene.render((i / FPS for i in range(round(scene.seconds * FPS))), SIDE).frames for scene in scenes]
    return np.concatenate(clips), [replace(scene, textures=(), blots=()) for scene in scenes]


SIDES = {140: 0.5, 112: 0.35, 84: 0.15}  # pixels per side of the model's input, and how often
PAIRS = 96  # frame pairs per step
ALL_STRIDES = (1, 1, 1, 1, 2)  # frames from one to the next


class Pairs(Dataset[dict[str, Tensor]]):
    """Batches of frame pairs from anywhere in the clips, with what their patches show."""

    def __init__(self, pool: Pool, first: int, steps: int) -> None:
        self.pool, self.first, self.steps = pool, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0, self.first + index])
        side = draw_side(rng)
        frames, labels = [], []
        for scene in rng.integers(len(self.pool.scenes), size=PAIRS):
            clip = self.pool.clip(scene)
            stride = int(rng.choice(ALL_STRIDES))
            at = int(rng.integers(len(clip) - stride))
            frames.append(clip[[at, at + stride]])
            labels.append(patch_labels(self.pool.scenes[scene], (at / FPS, (at + stride) / FPS), side))
        return {"frames": as_tensor(frames), "labels": as_tensor(labels), "side": torch.tensor(side)}


class Clips(Dataset[dict[str, Tensor]]):
    """Batches of whole clips with equally many frames, about `PAIRS` frame pairs each."""

    def __init__(self, pool: Pool, seed: int, first: int, steps: int, *, labelled: bool) -> None:
        self.pool, self.seed, self.first, self.steps, self.labelled = pool, seed, first, steps, labelled
        self.lengths = np.diff(pool.first)

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.first + index])
        side, stride = draw_side(rng), int(rng.choice(ALL_STRIDES))
        lengths = self.lengths if stride == 1 else self.lengths[self.lengths >= 2 * 4]
        length = int(rng.choice(lengths))  # as common as such clips are
        scenes = rng.choice(np.flatnonzero(self.lengths == length), 2 * PAIRS * stride // length, replace=False)
        times = np.arange(0, length, stride)[: length // stride // 2 * 2] / FPS
        clips = [self.pool.clip(scene)[(times * FPS).astype(int)] for scene in scenes]
        batch = {"frames": as_tensor(clips).unflatten(1, (-1, 2)), "scenes": torch.from_numpy(scenes)}
        if self.labelled:
            pairs = list(zip(times[::2], times[1::2], strict=True))
            shown = [[patch_labels(self.pool.scenes[scene], pair, side) for pair in pairs] for scene in scenes]
            batch["labels"] = as_tensor(shown)
        return batch | {"side": torch.tensor(side)}


def draw_side(rng: np.random.Generator) -> int:
    """Pixels per side of a batch's frames."""
    return int(rng.choice(list(SIDES), p=list(SIDES.values())))


def as_tensor(parts: list) -> Tensor:
    """Arrays of one shape as one tensor."""
    return torch.from_numpy(np.array(parts))
