"""Accuracy, time and FLOPs of a model on held-out questions of the procedural world, several settings side by side."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ipcv.answer import Answer, ModelFacts, Options, StageName
from ipcv.captions import fact_score
from ipcv.qa import PIXELS, Model, TimedFrames
from ipcv.questions import KINDS, Kind, Question, benchmark
from ipcv.savings import COMPARED
from ipcv.scenes import make_clip
from ipcv.settings import Setting
from ipcv.world import Clip

SCHEMA_VERSION = 2
Z = 1.959964  # standard normal quantile of 95 % intervals


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A question that one setting answered differently from the first."""

    question: int  # its place in the benchmark, from 0
    kind: Kind
    text: str
    truth: str
    first: str  # the first setting's answer
    answer: str
    points: float  # what this answer scored less the first one's score


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one setting did on all questions."""

    name: str
    settings: Setting
    accuracy: float  # measured; mean score of the answers (see `points`)
    interval: Interval  # of `accuracy`
    difference: float  # measured; `accuracy` less that of the first setting
    difference_interval: Interval  # paired: the same questions
    by_kind: dict[Kind, float]  # measured
    same_answers: float  # measured; share of the questions answered as the first setting did
    changed: tuple[Changed, ...]  # the other answers
    seconds: dict[StageName, float]  # measured; mean per question, of "generate" per token
    flops: dict[StageName, float]  # computed, likewise


@dataclass(frozen=True, kw_only=True)
class Report:
    """A benchmark of one model: the same questions for every setting, one after the other."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    questions: int
    by_kind: dict[Kind, int]  # how many questions of each kind
    constant: dict[Kind, float]  # computed; score of the best answer that is always the same
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]  # from all answers, each once


@dataclass
class _Tally:
    """What one setting has done so far."""

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

    def score(self, setting: Setting, kinds: Sequence[Kind], first: "_Tally") -> Score:
        count = len(kinds)
        mine = np.array(self.points)
        gained = mine - first.points
        per = {name: self.new_tokens if name == "generate" else count for name in COMPARED}
        return Score(
            name=setting.name,
            settings=setting,
            accuracy=float(mine.mean()),
            interval=accuracy_interval(float(mine.mean()), count),
            difference=float(gained.mean()),
            difference_interval=difference_interval(gained),
            by_kind=_means(self.points, kinds),
            same_answers=1 - len(self.changed) / count,
            changed=tuple(self.changed),
            seconds={name: self.seconds[name] / per[name] for name in COMPARED},
            flops={name: self.flops[name] / per[name] for name in COMPARED},
        )


def bench(model: Model, count: int, settings: Sequence[Setting]) -> Iterator[int | Report]:
    """Ask `count` held-out questions under each of `settings`; yields how many are done, and the report at the end.

    Clips are rendered in memory. Every question is asked under all settings before the next one, so that their times
    compare; the first one is asked once more beforehand, uncounted, so that none starts cold. Raises `ValueError` for
    fewer than one question per kind.
    """
    if count < len(KINDS):
        raise ValueError(f"{count} questions are too few: there are {len(KINDS)} kinds")
    tallies = [_Tally() for _ in settings]
    warnings: dict[str, None] = {}
    asked: list[Question] = []
    drawn = benchmark(count + 1)  # one more scene: the other one of the last question
    seed, question = next(drawn)
    clip = make_clip(seed)
    _answers(model, clip, clip, question, settings)
    for later_seed, later in drawn:
        other = make_clip(later_seed)
        answers = _answers(model, clip, other, question, settings)
        for tally, answer in zip(tallies, answers, strict=True):
            tally.add(question, answer, answers[0])
            warnings.update(dict.fromkeys(answer.warnings))
        asked.append(question)
        clip, question = other, later
        yield len(asked)
    kinds = [each.kind for each in asked]
    yield Report(
        model=model.facts,
        questions=count,
        by_kind=dict(Counter(kinds)),
        constant=constant_baseline(asked),
        scores=tuple(tally.score(setting, kinds, tallies[0]) for tally, setting in zip(tallies, settings, strict=True)),
        warnings=tuple(warnings),
    )


def points(question: Question, answer: str) -> float:
    """What an answer scores, 0 to 1.

    A caption scores the F1 of its facts; a question with options 1 if the right one is named and no other; any other
    question 1 for the right answer to the letter.
    """
    said = normalized(answer)
    if question.kind == "caption":
        return fact_score(question.answer, answer)
    if not question.options:
        return float(said == normalized(question.answer))
    named = [option for option in question.options if re.search(rf"\b{option}\b", said)]
    return float(named == [question.answer])


def normalized(answer: str) -> str:
    """`answer` without what does not count: case, spaces at the ends, a final full stop.

    >>> normalized(" Red. ")
    'red'
    """
    return answer.strip().rstrip(".").lower()


def constant_baseline(questions: Sequence[Question]) -> dict[Kind, float]:
    """For each kind the score of the best constant strategy, which is chosen in hindsight.

    One of the right answers, whatever is asked, or the first, second, … of a question's options.
    """
    best: dict[Kind, float] = {}
    for kind in dict.fromkeys(question.kind for question in questions):
        mine = [question for question in questions if question.kind == kind]
        places = range(max(len(question.options) for question in mine))
        strategies = [
            *([answer] * len(mine) for answer in dict.fromkeys(question.answer for question in mine)),
            *([question.options[place % len(question.options)] for question in mine] for place in places),
        ]
        best[kind] = max(
            sum(points(question, answer) for question, answer in zip(mine, each, strict=True)) / len(mine)
            for each in strategies
        )
    return best


def accuracy_interval(mean: float, count: int) -> Interval:
    """Wilson's score interval of a mean of `count` scores between 0 and 1."""
    centre = (mean + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def difference_interval(gained: Sequence[float] | np.ndarray) -> Interval:
    """Agresti and Min's interval (2005) of a paired difference of scores; `gained` is each question's."""
    gained = np.asarray(gained)
    won, lost = gained[gained > 0].sum() + 0.5, -gained[gained < 0].sum() + 0.5
    count = len(gained) + 2
    centre = (won - lost) / count
    half = Z * math.sqrt(won + lost - (won - lost) ** 2 / count) / count
    return Interval(low=float(centre - half), high=float(centre + half))


def _answers(model: Model, clip: Clip, other: Clip, question: Question, settings: Sequence[Setting]) -> list[Answer]:
    return [
        model.ask(_video(clip, other, setting), question.text, _options(model, clip, setting)) for setting in settings
    ]


def _video(clip: Clip, other: Clip, setting: Setting) -> TimedFrames:
    """What a setting shows of a clip: an even number of frames, evenly chosen."""
    shown = other if setting.shown == "other" else clip
    frames = np.full_like(shown.frames, 128) if setting.shown == "grey" else shown.frames
    count = max(2, 2 * round(len(frames) * setting.frames / 2))
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return TimedFrames(frames[chosen], [shown.times[index] for index in chosen])


def _options(model: Model, clip: Clip, setting: Setting) -> Options:
    """The setting's options, with fewer pixels where it says so."""
    if setting.pixels == 1:
        return setting.options
    patches = model.loaded.patches
    height, width = patches.limited(PIXELS, strict=False).resize(*clip.frames.shape[1:3])
    lowest = max(patches.min_pixels, patches.factor**2)
    return replace(setting.options, max_pixels=max(lowest, round(height * width * setting.pixels)))


def _means(values: Sequence[float], kinds: Sequence[Kind]) -> dict[Kind, float]:
    """The mean for each kind."""
    return {
        kind: float(np.mean([value for value, of in zip(values, kinds, strict=True) if of == kind]))
        for kind in dict.fromkeys(kinds)
    }
