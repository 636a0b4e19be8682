"""The report of a benchmark: plain data, alike in Python and in JSON."""

from dataclasses import dataclass

from ipcv.answer import StageName
from ipcv.benchmark.scoring import Interval
from ipcv.benchmark.settings import Setting
from ipcv.benchmark.wordings import QuestionKind
from ipcv.models.facts import ModelFacts
from ipcv.world.camera import CameraKind

SCHEMA_VERSION = 2


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
class Measured:
    """Accuracy, time and FLOPs of one setting over some questions."""

    accuracy: float  # measured; mean score of the answers (see `points`)
    interval: Interval  # of `accuracy`
    difference: float  # measured; `accuracy` less that of the first setting
    difference_interval: Interval | None  # paired: the same questions; None: this is the first setting
    same_answers: float  # measured; share of the questions answered as by the first setting
    seconds: dict[StageName, float]  # measured; mean per question, of "generate" per token
    flops: dict[StageName, float]  # computed, likewise


@dataclass(frozen=True, kw_only=True)
class Half(Measured):
    """Accuracy, time and FLOPs of one setting over the questions whose camera stands still, or moves."""

    visual_tokens: float  # measured; in the prompt, mean per question


@dataclass(frozen=True, kw_only=True)
class Score(Measured):
    """Accuracy, time and FLOPs of one setting over all questions."""

    name: str
    settings: Setting
    default: bool  # whether `ipcv ask` without options answers like this
    by_kind: dict[QuestionKind, float]  # measured; accuracy
    by_camera: dict[CameraKind, Half]
    changed: tuple[Changed, ...]  # the questions answered differently


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a benchmark: one model, every setting on the same questions."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    questions: int
    by_kind: dict[QuestionKind, int]  # how many questions of each kind
    by_camera: dict[CameraKind, int]  # likewise of each camera
    constant: dict[QuestionKind, float]  # computed; best score that is possible without looking
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]  # from all answers, each once, and about the number of questions
