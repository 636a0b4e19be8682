"""Accuracy, time and FLOPs of a model on held-out questions of the procedural world, several settings side by side."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ipcv.answer import Answer, ModelFacts, Options, StageName
from ipcv.qa import Model, TimedFrames
from ipcv.questions import ANSWERS, KINDS, Kind, Question, benchmark
from ipcv.savings import COMPARED
from ipcv.world import make_clip

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one setting did on all questions."""

    name: str
    settings: Options
    accuracy: float  # measured; share of the questions answered right (see `is_right`)
    by_kind: dict[Kind, float]  # measured
    same_answers: float  # measured; share of the questions answered as the first setting did
    seconds: dict[StageName, float]  # measured; mean per question, of "generate" per token
    flops: dict[StageName, float]  # computed, likewise


@dataclass(frozen=True, kw_only=True)
class Report:
    """A benchmark of one model: the same questions for every setting, one after the other."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    questions: int
    by_kind: dict[Kind, int]  # how many questions of each kind
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]  # from all answers, each once


@dataclass
class _Tally:
    """What one setting has done so far."""

    right: Counter[Kind] = field(default_factory=Counter)
    same: int = 0
    seconds: Counter[StageName] = field(default_factory=Counter)
    flops: Counter[StageName] = field(default_factory=Counter)
    new_tokens: int = 0

    def add(self, question: Question, answer: Answer, first: Answer) -> None:
        self.right[question.kind] += is_right(question, answer.answer)
        self.same += normalized(answer.answer) == normalized(first.answer)
        for stage in answer.stages:
            if stage.name in COMPARED:
                self.seconds[stage.name] += stage.seconds  # type: ignore[assignment] # counters count in fractions too
                self.flops[stage.name] += stage.flops or 0
                self.new_tokens += stage.tokens_in if stage.name == "generate" else 0

    def score(self, name: str, settings: Options, kinds: Mapping[Kind, int]) -> Score:
        count = sum(kinds.values())
        per = {name: self.new_tokens if name == "generate" else count for name in COMPARED}
        return Score(
            name=name,
            settings=settings,
            accuracy=self.right.total() / count,
            by_kind={kind: self.right[kind] / asked for kind, asked in kinds.items()},
            same_answers=self.same / count,
            seconds={name: self.seconds[name] / per[name] for name in COMPARED},
            flops={name: self.flops[name] / per[name] for name in COMPARED},
        )


def bench(model: Model, count: int, settings: Mapping[str, Options]) -> Iterator[int | Report]:
    """Ask `count` held-out questions under each of `settings`; yields how many are done, and the report at the end.

    Clips are rendered in memory. Every question is asked under all settings before the next one, so that their times
    compare; the first one is asked once more beforehand, uncounted, so that none starts cold. Raises `ValueError` for
    fewer than one question per kind.
    """
    if count < len(KINDS):
        raise ValueError(f"{count} questions are too few: there are {len(KINDS)} kinds")
    questions = list(benchmark(count))
    tallies = {name: _Tally() for name in settings}
    warnings: dict[str, None] = {}
    for done, (seed, question) in enumerate([questions[0], *questions]):
        clip = make_clip(seed)
        video = TimedFrames(clip.frames, clip.times)
        answers = {name: model.ask(video, question.text, options) for name, options in settings.items()}
        if not done:
            continue
        first = next(iter(answers.values()))
        for name, answer in answers.items():
            tallies[name].add(question, answer, first)
            warnings.update(dict.fromkeys(answer.warnings))
        yield done
    kinds = Counter(question.kind for _, question in questions)
    yield Report(
        model=model.facts,
        questions=count,
        by_kind=dict(kinds),
        scores=tuple(tally.score(name, settings[name], kinds) for name, tally in tallies.items()),
        warnings=tuple(warnings),
    )


def is_right(question: Question, answer: str) -> bool:
    """Whether `answer` names the right one of the kind's possible answers and no other; a caption must be exact."""
    possible = ANSWERS.get(question.kind)
    if possible is None:
        return normalized(answer) == normalized(question.answer)
    return [each for each in possible if re.search(rf"\b{each}\b", normalized(answer))] == [question.answer]


def normalized(answer: str) -> str:
    """`answer` without what does not count: case, spaces at the ends, a final full stop.

    >>> normalized(" Red. ")
    'red'
    """
    return answer.strip().rstrip(".").lower()
