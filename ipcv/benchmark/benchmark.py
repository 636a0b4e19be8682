"""Ask a model held-out questions about the demo world under several settings: accuracy, time and FLOPs of each."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ipcv.answer import Answer
from ipcv.benchmark.cases import Case, benchmark
from ipcv.benchmark.report import Report
from ipcv.benchmark.scoring import constant_baseline
from ipcv.benchmark.settings import Setting
from ipcv.benchmark.tally import Tally
from ipcv.benchmark.wordings import KINDS, QuestionKind
from ipcv.inference.model import Model
from ipcv.media.sources import TimedFrames
from ipcv.options import PIXELS, Options
from ipcv.world.mp4 import FILE_FPS, write_clip
from ipcv.world.scene import SceneClip

FEW = 5  # questions of a kind: with fewer, the best constant answer is right by chance too often


def bench(
    model: Model, count: int, settings: Sequence[Setting], stop: Callable[[], bool] = lambda: False
) -> Iterator[int | Report]:
    """Ask `count` held-out questions under each of `settings`; yields the number done, and at the end the report.

    Each question goes through all settings before the next question. The settings take turns at being first, so that
    their times compare, and the first question is asked twice, of which only the second time counts. Once `stop`
    returns true, the report follows at once: on the questions asked so far, with a warning. Raises `ValueError` for
    fewer than one question per kind.
    """
    if count < len(KINDS):
        raise ValueError(f"{count} questions are too few: there are {len(KINDS)} kinds")
    tallies = [Tally(setting) for setting in settings]
    warnings: dict[str, None] = {}
    asked: list[Case] = []
    with TemporaryDirectory(prefix="ipcv-") as folder:
        for case, following in pairwise(benchmark(count + 1)):
            clips = (case.clip(), following.clip())
            for _ in range(1 if asked else 2):
                answers: dict[int, Answer] = {}
                for turn in range(len(settings)):  # each is the first, which is the slowest, equally often
                    index = (len(asked) + turn) % len(settings)
                    answers[index] = _answer(model, case, clips, settings[index], Path(folder))
            for index, tally in enumerate(tallies):
                tally.add(case, answers[index], answers[0])
                warnings.update(dict.fromkeys(answers[index].warnings))
            asked.append(case)
            yield len(asked)
            if stop() and len(asked) < count:
                warnings[f"stopped after {len(asked)} of {count} questions"] = None
                break
    kinds = [each.question.kind for each in asked]
    warnings.update(dict.fromkeys(_about_few(kinds)))
    yield Report(
        model=model.facts,
        questions=len(asked),
        by_kind=dict(Counter(kinds)),
        by_camera=dict(Counter(each.camera for each in asked)),
        constant=constant_baseline([each.question for each in asked]),
        scores=tuple(tally.score(is_first=tally is tallies[0]) for tally in tallies),
        warnings=tuple(warnings),
    )


def _answer(model: Model, case: Case, clips: tuple[SceneClip, SceneClip], setting: Setting, folder: Path) -> Answer:
    """Ask a case under a setting. `clips` are its own and another scene's, and `folder` a place for a video file."""
    own, other = clips
    shown = other if setting.shown == "other" else own
    options = _options(model, shown, setting)
    if setting.shown == "file":
        path = folder / "clip.mp4"
        write_clip(path, case.clip(FILE_FPS))
        return model.ask(path, case.question.text, options)
    frames = np.full_like(shown.frames, 128) if setting.shown == "grey" else shown.frames
    count = max(2, 2 * round(len(frames) * setting.frames / 2))  # frames are encoded in pairs
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    video = TimedFrames(frames[chosen], [shown.times[index] for index in chosen])
    return model.ask(video, case.question.text, options)


def _options(model: Model, clip: SceneClip, setting: Setting) -> Options:
    """The options of a setting, its share of pixels applied to the size of `clip`."""
    if setting.pixels == 1:
        return setting.options
    patches = model.loaded.patches
    frames, height, width = clip.frames.shape[:3]
    height, width = patches.limited(PIXELS, strict=False).resize(height, width, frames)
    lowest = max(patches.min_pixels, patches.factor**2)
    return replace(setting.options, max_pixels=max(lowest, round(height * width * setting.pixels)))


def _about_few(kinds: Sequence[QuestionKind]) -> Iterator[str]:
    """A warning where there are too few questions of a kind."""
    if min(kinds.count(kind) for kind in KINDS) < FEW:
        yield f"{len(kinds)} questions say little, with fewer than {FEW} of a kind: use {10 * len(KINDS)} or more"
