"""Accuracy, time and FLOPs of a model on held-out questions of the procedural world, several settings side by side."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ipcv.answer import Answer, ModelFacts, Options, StageName
from ipcv.qa import Model
from ipcv.questions import KINDS, Kind, benchmark
from ipcv.savings import COMPARED
from ipcv.world import make_clip

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one setting did on all questions."""

    name: str
    settings: Options
    accuracy: float  # measured; share of the questions answered exactly right
    by_kind: dict[Kind, float]  # measured
    same_answers: float  # measured; share of the questions answered as the first setting did
    seconds: dict[StageName, float]  # measured, summed over the questions
    flops: dict[StageName, int]  # computed, likewise


@dataclass(frozen=True, kw_only=True)
class Report:
    """A benchmark of one model: the same questions for every setting, one after the other."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    questions: int
    by_kind: dict[Kind, int]  # how many questions of each kind
    scores: tuple[Score, ...]


@dataclass
class _Tally:
    """What one setting has done so far."""

    right: Counter[Kind] = field(default_factory=Counter)
    same: int = 0
    seconds: defaultdict[StageName, float] = field(default_factory=lambda: defaultdict(float))
    flops: defaultdict[StageName, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, kind: Kind, answer: Answer, truth: str, first: str) -> None:
        self.right[kind] += normalized(answer.answer) == normalized(truth)
        self.same += normalized(answer.answer) == normalized(first)
        for stage in answer.stages:
            if stage.name in COMPARED:
                self.seconds[stage.name] += stage.seconds
                self.flops[stage.name] += stage.flops or 0


def bench(model: Model, count: int, settings: Mapping[str, Options]) -> Iterator[int | Report]:
    """Ask `count` held-out questions under each of `settings`; yields how many are done, and the report at the end.

    Clips are rendered in memory. Every question is asked under all settings before the next one, so that their times
    compare. Raises `ValueError` for fewer than one question per kind.
    """
    if count < len(KINDS):
        raise ValueError(f"{count} questions are too few: there are {len(KINDS)} kinds")
    tallies = {name: _Tally() for name in settings}
    kinds: Counter[Kind] = Counter()
    for done, (seed, question) in enumerate(benchmark(count), start=1):
        kinds[question.kind] += 1
        clip, first = make_clip(seed), None
        for name, options in settings.items():
            answer = model.ask(clip, question.text, options)
            first = answer.answer if first is None else first
            tallies[name].add(question.kind, answer, question.answer, first)
        yield done
    yield Report(
        model=model.facts,
        questions=count,
        by_kind=dict(kinds),
        scores=tuple(
            Score(
                name=name,
                settings=settings[name],
                accuracy=tally.right.total() / count,
                by_kind={kind: tally.right[kind] / kinds[kind] for kind in KINDS},
                same_answers=tally.same / count,
                seconds=dict(tally.seconds),
                flops=dict(tally.flops),
            )
            for name, tally in tallies.items()
        ),
    )


def normalized(answer: str) -> str:
    """`answer` without what does not count: case, spaces at the ends, a final full stop.

    >>> normalized(" Red. ")
    'red'
    """
    return answer.strip().rstrip(".").lower()
