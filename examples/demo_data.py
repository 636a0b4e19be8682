"""Training data of the demo model: scenes that are rendered once, and batches drawn from them."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from demo_vision import LABELS, PATCH, patch_labels
from demo_wild import wild_clip
from torch import Tensor
from torch.utils.data import Dataset

from ipcv.world.random_scene import make_scene
from ipcv.world.scene import FPS, TRAINING_SEEDS, Scene, Tag, paint_tag

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
        """The first `count` training scenes, rendered into `folder` unless they are there.

        After a change to the world delete them: it is not noticed.
        """
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
    part = done.with_suffix(".tmp")
    part.write_bytes(pickle.dumps(scenes))
    part.replace(done)


def _render_block(start: int, count: int) -> tuple[np.ndarray, list[Scene]]:
    scenes = [make_scene(TRAINING_SEEDS[seed]) for seed in range(start, min(count, start + BLOCK))]
    clips = [scene.render((i / FPS for i in range(round(scene.seconds * FPS))), SIDE).frames for scene in scenes]
    return np.concatenate(clips), [replace(scene, textures=()) for scene in scenes]


SIDES = {140: 0.6, 112: 0.3, 84: 0.1}  # pixels per side of the model's input, and how often
PAIRS = 96  # frame pairs per step
ALL_STRIDES = (1, 1, 1, 1, 2)  # frames from one to the next
MORE_TAGS = 3  # scenes whose tags are drawn over a frame pair
WILD = 12  # one clip in so many is not of the world


class Pairs(Dataset[dict[str, Tensor]]):
    """Batches of frame pairs from anywhere in the clips, with what their patches show.

    Tags of other scenes are drawn over them: letters are the hardest to learn.
    """

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
            times = (at / FPS, (at + stride) / FPS)
            others = rng.integers(len(self.pool.scenes), size=MORE_TAGS)
            more = tuple(tag for other in others for tag in self.pool.scenes[other].tags)
            frames.append(with_tags(clip[[at, at + stride]], self.pool.scenes[scene], more, times))
            crowded = replace(self.pool.scenes[scene], tags=self.pool.scenes[scene].tags + more)
            labels.append(patch_labels(crowded, times, side))
        return {"frames": as_tensor(frames), "labels": as_tensor(labels), "side": torch.tensor(side)}


class Clips(Dataset[dict[str, Tensor]]):
    """Batches of whole clips with equally many frames, about `PAIRS` frame pairs each.

    Some at the end of each are of no scene of the world: their number is -1.
    """

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
        fitting = np.flatnonzero(self.lengths == length)
        scenes = rng.choice(fitting, min(len(fitting), max(2, 2 * PAIRS * stride // length)), replace=False)
        times = np.arange(0, length, stride)[: length // stride // 2 * 2] / FPS
        scenes[-max(1, len(scenes) // WILD) :] = -1
        clips = [
            self.pool.clip(scene)[(times * FPS).astype(int)] if scene >= 0 else wild_clip(rng, len(times), SIDE)
            for scene in scenes
        ]
        batch = {"frames": as_tensor(clips).unflatten(1, (-1, 2)), "scenes": torch.from_numpy(scenes)}
        if self.labelled:
            pairs = list(zip(times[::2], times[1::2], strict=True))
            unclear = np.full((len(LABELS), (side // PATCH) ** 2), -100)
            batch["labels"] = as_tensor(
                [
                    [patch_labels(self.pool.scenes[scene], pair, side) if scene >= 0 else unclear for pair in pairs]
                    for scene in scenes
                ]
            )
        return batch | {"side": torch.tensor(side)}


def with_tags(pair: np.ndarray, scene: Scene, tags: tuple[Tag, ...], times: tuple[float, float]) -> np.ndarray:
    """A frame pair of a scene with more tags over it."""
    frames = pair.astype(np.float32)
    for frame, time in zip(frames, times, strict=True):
        for tag in tags:
            paint_tag(frame, tag, time, scene.shift(time, SIDE))
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8)


def draw_side(rng: np.random.Generator) -> int:
    """Pixels per side of a batch's frames."""
    return int(rng.choice(list(SIDES), p=list(SIDES.values())))


def as_tensor(parts: list) -> Tensor:
    """Arrays of one shape as one tensor."""
    return torch.from_numpy(np.array(parts))
