"""Ask a model held-out questions about the demo world under several settings: accuracy, time and FLOPs of each."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ipcv.answer import Answer, StageName
from ipcv.benchmark.questions import Question, benchmark
from ipcv.benchmark.scoring import (
    Interval,
    accuracy_interval,
    constant_baseline,
    difference_interval,
    normalized,
    points,
)
from ipcv.benchmark.settings import Setting
from ipcv.benchmark.wordings import KINDS, QuestionKind
from ipcv.inference.model import Model
from ipcv.inference.savings import COMPARED
from ipcv.media.sources import TimedFrames
from ipcv.models.facts import ModelFacts
from ipcv.options import PIXELS, Options
from ipcv.world.mp4 import FILE_FPS, write_clip
from ipcv.world.random_scene import make_clip
from ipcv.world.scene import SceneClip

SCHEMA_VERSION = 2
FEW = 5  # questions of a kind: with fewer, the best constant answer is right by chance too often


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A question that one setting answered differently than the first setting did."""

    question: int  # number in the benchmark, from 0
    kind: QuestionKind
    text: str
    truth: str
    first: str  # answer of the first setting
    answer: str  # of this setting
    points: float  # score of this answer less that of the first


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy, time and FLOPs of one setting over all questions."""

    name: str
    settings: Setting
    default: bool  # whether `ipcv ask` without options answers like this
    accuracy: float  # measured; mean score of the answers (see `points`)
    interval: Interval  # of `accuracy`
    difference: float  # measured; `accuracy` less that of the first setting
    difference_interval: Interval | None  # paired: the same questions; None: this is the first setting
    by_kind: dict[QuestionKind, float]  # measured
    same_answers: float  # measured; share of the questions answered as by the first setting
    changed: tuple[Changed, ...]  # the questions answered differently
    seconds: dict[StageName, float]  # measured; mean per question, of "generate" per token
    flops: dict[StageName, float]  # computed, likewise


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a benchmark: one model, every setting on the same questions."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    questions: int
    by_kind: dict[QuestionKind, int]  # how many questions of each kind
    constant: dict[QuestionKind, float]  # computed; best score that is possible without looking
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]  # from all answers, each once, and about the number of questions


@dataclass
class _Tally:
    """Running sums of one setting."""

    points: list[float] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    seconds: Counter[StageName] = field(default_factory=Counter)
    flops: Counter[StageName] = field(default_factory=Counter)
    new_tokens: int = 0

    def add(self, question: Question, answer: Answer, first: Answer) -> None:
        self.points.append(points(question, answer.answer))
        if normalized(answer.answer) != normalized(first.answer):
            self.changed.append(
                Changed(
                    question=len(self.points) - 1,
                    kind=question.kind,
                    text=question.text,
                    truth=question.answer,
                    first=first.answer,
                    answer=answer.answer,
                    points=self.points[-1] - points(question, first.answer),
                )
            )
        for stage in answer.stages:
            if stage.name in COMPARED:
                self.seconds[stage.name] += stage.seconds  # type: ignore[assignment] # counters count in fractions too
                self.flops[stage.name] += stage.flops or 0
                self.new_tokens += stage.tokens_in if stage.name == "generate" else 0

    def score(self, setting: Setting, kinds: Sequence[QuestionKind], first: "_Tally") -> Score:
        count = len(kinds)
        mine = np.array(self.points)
        gained = mine - first.points
        per = {name: self.new_tokens if name == "generate" else count for name in COMPARED}
        return Score(
            name=setting.name,
            settings=setting,
            default=setting.is_default,
            accuracy=float(mine.mean()),
            interval=accuracy_interval(float(mine.mean()), count),
            difference=float(gained.mean()),
            difference_interval=None if self is first else difference_interval(gained),
            by_kind=_means(self.points, kinds),
            same_answers=1 - len(self.changed) / count,
            changed=tuple(self.changed),
            seconds={name: self.seconds[name] / per[name] for name in COMPARED},
            flops={name: self.flops[name] / per[name] for name in COMPARED},
        )


@dataclass(frozen=True)
class _Case:
    """A question, and the clip of its scene."""

    seed: int
    question: Question
    clip: SceneClip


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
    tallies = [_Tally() for _ in settings]
    warnings: dict[str, None] = {}
    asked: list[Question] = []
    drawn = (_Case(seed, question, make_clip(seed)) for seed, question in benchmark(count + 1))
    with TemporaryDirectory(prefix="ipcv-") as folder:
        for case, following in pairwise(drawn):
            for _ in range(1 if asked else 2):
                answers: dict[int, Answer] = {}
                for turn in range(len(settings)):  # each is the first, which is the slowest, equally often
                    index = (len(asked) + turn) % len(settings)
                    answers[index] = _answer(model, case, following.clip, settings[index], Path(folder))
            for index, tally in enumerate(tallies):
                answer = answers[index]
                tally.add(case.question, answer, answers[0])
                warnings.update(dict.fromkeys(answer.warnings))
            asked.append(case.question)
            yield len(asked)
            if stop() and len(asked) < count:
                warnings[f"stopped after {len(asked)} of {count} questions"] = None
                break
    kinds = [each.kind for each in asked]
    warnings.update(dict.fromkeys(_about_few(kinds)))
    yield Report(
        model=model.facts,
        questions=len(asked),
        by_kind=dict(Counter(kinds)),
        constant=constant_baseline(asked),
        scores=tuple(tally.score(setting, kinds, tallies[0]) for tally, setting in zip(tallies, settings, strict=True)),
        warnings=tuple(warnings),
    )


def _answer(model: Model, case: _Case, other: SceneClip, setting: Setting, folder: Path) -> Answer:
    """Ask a case under a setting. `other` is another scene's clip, and `folder` a place for a video file."""
    shown = other if setting.shown == "other" else case.clip
    options = _options(model, shown, setting)
    if setting.shown == "file":
        path = folder / "clip.mp4"
        write_clip(path, make_clip(case.seed, fps=FILE_FPS))
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


def _means(values: Sequence[float], kinds: Sequence[QuestionKind]) -> dict[QuestionKind, float]:
    """The mean of the values of each kind."""
    return {
        kind: float(np.mean([value for value, of in zip(values, kinds, strict=True) if of == kind]))
        for kind in dict.fromkeys(kinds)
    }
