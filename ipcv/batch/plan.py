"""What is made of each video of a batch, what there is to do for one, and what became of it."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ipcv.answer import SCHEMA_VERSION, Answer
from ipcv.batch.inputs import Item
from ipcv.batch.presets import DEFAULT_PROMPT
from ipcv.encodings import fingerprint
from ipcv.errors import ErrorKind, VideoError, error_kind
from ipcv.media.segments import Segments
from ipcv.options import Options

RECORD_VERSION = 3  # of what is asked and kept beside the answer

Cause = Literal["budget", "memory"]
FailedStage = Literal["open", "read", "encode", "generate", "write"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is made of every video. Bad values raise `ValueError`."""

    questions: tuple[str, ...] = (DEFAULT_PROMPT,)  # asked of each video or segment, unless the item has its own
    structured: bool = False  # the first answer is to be a JSON object as in `presets.Description`
    segments: Segments | None = None  # None: the whole video at once
    options: Options = field(default_factory=Options)
    fit: bool = False  # the options are the most that there may be: what fits into memory is chosen by who asks

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError("there is nothing to ask: give at least one question")
        if self.options.baseline:
            raise ValueError("captions have no baseline: measure it with `ask`")

    def key(self, item: Item, content: dict[str, Any] | None, model: dict[str, Any]) -> str:
        """What this very work is called: the same video, model, questions and settings, the same key."""
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
    data: dict[str, Any] | None = None  # the JSON object that was asked for
    problem: str | None = None  # why there is none, after a second try
    lowered: tuple[tuple[Cause, str], ...] = ()  # its warnings that it was asked with less, and why


@dataclass(frozen=True, kw_only=True)
class Started:
    """The encoder takes up this video."""

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
    """An item with what is known about its content."""

    item: Item
    key: str
    content: dict[str, Any] | None
    failed: Failed | None = None  # why it cannot even be opened


def describe(plan: Plan, model: dict[str, Any], item: Item) -> WorkItem:
    """What there is to do for `item`. A file that cannot be opened is a `WorkItem` that has failed already."""
    content: dict[str, Any] | None = None
    try:
        plan.settings(item)
        content = _content(item)
    except (VideoError, ValueError) as error:
        key = plan.key(item, None, model)
        return WorkItem(item=item, key=key, content=None, failed=failure(item, key, "open", error))
    return WorkItem(item=item, key=plan.key(item, content, model), content=content)


def _content(item: Item) -> dict[str, Any]:
    if item.problem:
        raise VideoError(item.problem)
    return fingerprint.content(item.video)


def failure(item: Item, key: str, stage: FailedStage, error: Exception) -> Failed:
    """`error` as what became of `item`."""
    name, kind, message = type(error).__name__, error_kind(error), str(error) or repr(error)
    return Failed(item=item, key=key, stage=stage, error=name, kind=kind, message=message)
