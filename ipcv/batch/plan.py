"""The plan of a run (questions, options), its work items, and the outcomes: started, captioned, failed."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ipcv.answer import SCHEMA_VERSION, Answer
from ipcv.batch.items import Item
from ipcv.batch.prompts import DEFAULT_PROMPT
from ipcv.encodings import fingerprint
from ipcv.errors import ErrorKind, VideoError, error_kind
from ipcv.media.remote.access import Access
from ipcv.media.segments import Segments
from ipcv.options import Options

RECORD_VERSION = 4  # of what is asked and kept beside the answer

Cause = Literal["budget", "memory"]
FailedStage = Literal["open", "read", "encode", "generate", "write"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The questions asked about every video, and the options. Bad values raise `ValueError`."""

    questions: tuple[str, ...] = (DEFAULT_PROMPT,)  # asked of each video or segment, unless the item has its own
    structured: bool = False  # whether the first answer must be a JSON object as in `prompts.Description`
    segments: Segments | None = None  # None: the whole video at once
    options: Options = field(default_factory=Options)
    fit: bool = False  # `ModelSource.fit`, part of the key: options are lowered to the free memory

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError("there is nothing to ask: give at least one question")
        if self.options.baseline:
            raise ValueError("captions have no baseline: measure it with `ask`")

    def key(self, item: Item, content: dict[str, Any] | None, model: dict[str, Any]) -> str:
        """The name of the work on one item: equal for equal video, model, questions and options, else different."""
        return fingerprint.digest(
            {
                "schema": [SCHEMA_VERSION, RECORD_VERSION],
                "video": [item.video, content],
                "span": [item.start, item.end],
                "model": model,
                "questions": self.asked(item),
                "structured": self.structured,
                "segments": fingerprint.plain(self.segments),
                "settings": fingerprint.plain(self.options),
                "fit": self.fit,
            }
        )

    def asked(self, item: Item) -> list[str]:
        """The questions for one item."""
        return [item.question] if item.question else list(self.questions)

    def settings(self, item: Item) -> Options:
        """The options for one item. Raises `ValueError` if its start and end make no sense."""
        sampling = self.options.sampling
        start = sampling.start if item.start is None else item.start
        end = sampling.end if item.end is None else item.end
        return replace(self.options, sampling=replace(sampling, start=start, end=end))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One answer about one video or one of its segments."""

    start: float  # seconds of source time
    end: float
    answer: Answer
    data: dict[str, Any] | None = None  # the answer as a JSON object, if the plan is `structured`
    problem: str | None = None  # why the answer is no such object, after a second try
    lowered: tuple[tuple[Cause, str], ...] = ()  # warnings that something was lowered, with the cause


@dataclass(frozen=True, kw_only=True)
class Started:
    """The encoder begins this video."""

    item: Item


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A video is done."""

    item: Item
    key: str
    parts: tuple[Part, ...]  # by segment, then by question


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A video could not be captioned."""

    item: Item
    key: str
    stage: FailedStage
    error: str  # class of the exception, for people
    kind: ErrorKind
    message: str


Outcome = Started | Captioned | Failed


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """An item that is to be captioned, with its key and a fingerprint of its content."""

    item: Item
    key: str
    content: dict[str, Any] | None
    failed: Failed | None = None  # set if it cannot even be opened


def describe(plan: Plan, model: dict[str, Any], item: Item, access: Access | None = None) -> WorkItem:
    """Make a work item. One whose file cannot be opened has failed already."""
    content: dict[str, Any] | None = None
    try:
        plan.settings(item)
        content = _content(item, access)
    except (VideoError, ValueError) as error:
        key = plan.key(item, None, model)
        return WorkItem(item=item, key=key, content=None, failed=failure(item, key, "open", error))
    return WorkItem(item=item, key=plan.key(item, content, model), content=content)


def _content(item: Item, access: Access | None) -> dict[str, Any]:
    if item.nonsense:
        raise ValueError(item.nonsense)
    if item.problem:
        raise VideoError(item.problem)
    return fingerprint.content(item.video, access)


def failure(item: Item, key: str, stage: FailedStage, error: Exception) -> Failed:
    """The failure of `item` through `error`."""
    name, kind, message = type(error).__name__, error_kind(error), str(error) or repr(error)
    return Failed(item=item, key=key, stage=stage, error=name, kind=kind, message=message)
