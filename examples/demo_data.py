"""Batches of rendered scenes for the demo model's training."""

import numpy as np
import torch
from demo_vision import SIDE, cell_labels
from torch import Tensor
from torch.utils.data import Dataset

from ipcv.world import SECONDS, TRAINING_SEEDS, Scene, make_scene

BATCH = {"encoder": 64, "decoder": 64, "joint": 32}  # scenes per step
FIRST_SEED = {"encoder": 0, "decoder": 10**8, "joint": 2 * 10**8}
FRAMES = 8  # of most clips: four seconds at two per second


class Scenes(Dataset[dict[str, Tensor]]):
    """One training batch per index, drawn from training seeds: rendered ahead by a worker process."""

    def __init__(self, stage: str, first: int, steps: int) -> None:
        self.stage, self.first, self.steps = stage, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        step, size = self.first + index, BATCH[self.stage]
        rng = np.random.default_rng([list(BATCH).index(self.stage), step])
        seeds = [FIRST_SEED[self.stage] + step * size + i for i in range(size)]
        count = draw_count(rng) if self.stage == "joint" else FRAMES
        times = [pair_times(rng) if self.stage == "encoder" else clip_times(rng, count) for _ in seeds]
        views = [look(make_scene(TRAINING_SEEDS[seed]), moments) for seed, moments in zip(seeds, times, strict=True)]
        frames, labels = (torch.from_numpy(np.stack(x)) for x in zip(*views, strict=True))
        return {"frames": frames, "labels": labels, "seeds": torch.tensor(seeds)}


def pair_times(rng: np.random.Generator) -> list[float]:
    """Two pairs of moments, one from each half of a clip."""
    gaps = rng.uniform(0.35, 0.6, 2)
    starts = [half + rng.uniform(0, 1.95 - gap) for half, gap in zip((0, 2), gaps, strict=True)]
    return [float(start + step) for start, gap in zip(starts, gaps, strict=True) for step in (0, gap)]


def draw_count(rng: np.random.Generator) -> int:
    """How many frames the clips of a batch have: mostly eight, and anything from two to sixteen."""
    return int(rng.choice([2, 4, 6, 8, 12, 16], p=[0.05, 0.15, 0.1, 0.5, 0.1, 0.1]))


def clip_times(rng: np.random.Generator, count: int) -> list[float]:
    """The moments of `count` frames: about two per second, or as many as fit the clip at another rate."""
    fits = (SECONDS - 0.1) / (count - 1)
    gap = rng.uniform(0.46, 0.54) if count <= FRAMES and rng.random() < 0.7 else rng.uniform(0.6, 1.0) * min(fits, 1.3)
    return (rng.uniform(0, SECONDS - gap * (count - 1)) + gap * np.arange(count)).tolist()


def look(scene: Scene, times: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Frame pairs [n, 2, S, S, 3] at `times` and what their cells show [n, 4, m]."""
    frames = scene.render(times, SIDE).frames
    pairs = zip(times[::2], times[1::2], strict=True)
    return frames.reshape(-1, 2, SIDE, SIDE, 3), np.stack([cell_labels(scene.things, pair) for pair in pairs])
