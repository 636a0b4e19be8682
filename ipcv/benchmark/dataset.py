"""Write clips and questions of the demo world into a folder."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ipcv.benchmark.questions import Question, ask
from ipcv.benchmark.wordings import KINDS
from ipcv.world.camera import CameraKind
from ipcv.world.mp4 import FILE_FPS, write_clip
from ipcv.world.random_scene import make_scene
from ipcv.world.scene import HELD_OUT_SEEDS

QUESTIONS_FILE = "questions.jsonl"


def write_world(
    folder: Path, clips: int, seed: int, *, camera: CameraKind | None = None, overwrite: bool = False
) -> Iterator[int]:
    """Write `clips` mp4 files and their questions into `folder`; yields the number done.

    The scenes are held out: no training has seen them. Their cameras stand still or move as `camera` says; without it
    most move. `questions.jsonl` is written last, as a whole, with one question of each kind that a scene allows. A line
    has `id`, `video` (relative to the folder), `question`, `answer`, `kind`, `options` (empty: free text), and the
    scene's `seed` and `camera` (as given here). Equal arguments write equal scenes and questions. Raises `ValueError`
    for numbers that make no sense, and without `overwrite` for a folder that has such files already.
    """
    if clips < 1:
        raise ValueError(f"clips={clips} must be at least 1")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    names = [f"clip-{index:04}.mp4" for index in range(clips)]
    there = [name for name in (QUESTIONS_FILE, *names) if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{folder} has a {there[0]} already: choose another folder, or give `overwrite`")
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    rng = np.random.default_rng([HELD_OUT_SEEDS.start, seed])
    half = len(HELD_OUT_SEEDS) // 2  # the benchmark's seeds are in the first half
    lines = []
    for done, (name, place) in enumerate(zip(names, rng.integers(half, 2 * half, clips).tolist(), strict=True), 1):
        scene_seed = HELD_OUT_SEEDS[place]
        scene = make_scene(scene_seed, camera)
        times = (i / FILE_FPS for i in range(round(scene.seconds * FILE_FPS)))
        with _whole(folder / name) as part:
            write_clip(part, scene.render(times, scene.size))
        questions = ask(scene, np.random.default_rng(scene_seed))
        for kind in KINDS:
            if mine := [question for question in questions if question.kind == kind]:
                lines.append(_line(name, scene_seed, camera, mine[int(rng.integers(len(mine)))]))
        yield done
    with _whole(folder / QUESTIONS_FILE) as part:
        part.write_text("".join(lines), encoding="utf-8")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A new file beside `path` that replaces it at the end, or is removed after an error."""
    part = path.with_name(f".{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    """Remove an earlier `questions.jsonl` and the clips that it names."""
    old = folder / QUESTIONS_FILE
    if old.exists():
        videos = re.findall(r'"video": "(clip-\d+\.mp4)"', old.read_text(encoding="utf-8", errors="replace"))
        old.unlink()
        for video in set(videos):
            (folder / video).unlink(missing_ok=True)


def _line(video: str, seed: int, camera: CameraKind | None, question: Question) -> str:
    record = {
        "id": f"{Path(video).stem}-{question.kind}",
        "video": video,
        "question": question.text,
        "answer": question.answer,
        "kind": question.kind,
        "options": question.options,
        "seed": seed,
        "camera": camera,
    }
    return json.dumps(record) + "\n"
