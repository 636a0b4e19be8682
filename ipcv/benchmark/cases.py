"""The benchmark's cases: held-out scenes, a question about each, and half of the cameras standing still."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ipcv.benchmark.questions import Question, ask
from ipcv.benchmark.wordings import BALANCE, KINDS, QuestionKind
from ipcv.world.camera import CAMERAS, CameraKind
from ipcv.world.random_scene import make_clip, make_scene
from ipcv.world.scene import FPS, HELD_OUT_SEEDS, SceneClip


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question, and the seed and camera of the scene that it is about."""

    seed: int
    camera: CameraKind
    question: Question

    def clip(self, fps: float = FPS) -> SceneClip:
        """Render the scene at `fps` frames per second."""
        return make_clip(self.seed, camera=self.camera, fps=fps)


def benchmark(count: int, kinds: tuple[QuestionKind, ...] = KINDS) -> Iterator[Case]:
    """Yield `count` held-out cases: kinds in turn, and the answers of a kind in turn, each with either camera.

    No two cases share a seed, and an equal count gives equal cases.
    """
    seeds = iter(HELD_OUT_SEEDS)
    for index in range(count):
        turn, place = divmod(index, len(kinds))
        kind, camera = kinds[place], CAMERAS[(turn + place) % 2]
        wanted = BALANCE[kind][turn // 2 % len(BALANCE[kind])]
        while True:
            seed = next(seeds)
            rng = np.random.default_rng([seed, index])
            questions = ask(make_scene(seed, camera), rng, (kind,))
            fitting = [question for question in questions if (question.balance or question.answer) == wanted]
            if fitting:
                yield Case(seed=seed, camera=camera, question=fitting[int(rng.integers(len(fitting)))])
                break
