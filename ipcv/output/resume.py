"""The memory of a run: which videos are done or have failed, which are left, and where each result goes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ipcv.batch.engine import Warn
from ipcv.batch.inputs import Item
from ipcv.batch.plan import Captioned, Failed, Outcome, Plan, WorkItem, describe, failure
from ipcv.errors import ErrorKind, SidecarError, TooManyFailuresError, is_about_space
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal, Record
from ipcv.output.records import failure_record, records
from ipcv.output.sidecars import Sidecars

Forecast = Literal["done", "failed", "todo"]


@dataclass
class Tally:
    """How far a run has come. FLOPs are computed, over all videos that this run captioned."""

    total: int
    done: int = 0  # in this run
    done_before: int = 0  # the output has them already
    failed: int = 0  # in this run
    failed_before: int = 0  # known not to work, and not tried again
    flops: int = 0
    flops_dense: int = 0
    errors: set[ErrorKind] = field(default_factory=set)  # what the failures are about

    @property
    def left(self) -> int:
        """Videos that have not been looked at."""
        return self.total - self.done - self.done_before - self.failed - self.failed_before

    def count(self, state: Forecast) -> None:
        """Count an item more, of which nothing but its state before the run is known."""
        self.total += 1
        self.done_before += state == "done"
        self.failed_before += state == "failed"


@dataclass(kw_only=True)
class Batch:
    """The items of a run, and their output."""

    items: Sequence[Item]
    plan: Plan
    model: dict[str, Any]  # as `fingerprint.model` describes it
    journal: Journal | None  # None: nothing is remembered
    failures: Failures
    sidecars: Sidecars
    warn: Warn
    overwrite: bool = False  # do again what is done
    retry_failed: bool = False  # do again what has failed
    max_failures: int | None = None

    def __post_init__(self) -> None:
        self.tally = Tally(len(self.items))
        self._events: list[Outcome] = []

    def todo(self) -> Iterator[WorkItem]:
        """Yield the work that is left, in order, and mend the side-cars of what is done already."""
        for item in self.items:
            work = describe(self.plan, self.model, item)
            match self._state(work):
                case "done":
                    self._refresh(work)
                case "failed":
                    self.tally.failed_before += 1
                    self.tally.errors.add(self.failures.records[item.id].get("kind", "other"))
                case "todo":
                    if self.journal and item.id in self.journal.entries and not self.overwrite:
                        self.warn(
                            f"{self.journal.path} has captions from other settings or contents: they are replaced"
                        )
                    yield self._checked(work)

    def forecast(self) -> Iterator[tuple[Item, Forecast]]:
        """Yield what `todo` would make of every item, without doing anything."""
        for item in self.items:
            yield item, self._state(describe(self.plan, self.model, item))

    def take(self, outcome: Outcome) -> None:
        """Write an outcome to where it belongs. Raises `OSError` if there is no room left."""
        if isinstance(outcome, Failed):
            self._fail(outcome)
            return
        self._events.append(outcome)
        if isinstance(outcome, Captioned):
            self._write(outcome)

    def events(self) -> list[Outcome]:
        """Return what has happened since the last call: what `take` got, and side-cars that could not be written."""
        events, self._events = self._events, []
        return events

    def check_failures(self) -> None:
        """Raise `TooManyFailuresError` if more than `max_failures` videos have failed."""
        if self.max_failures is not None and self.tally.failed > self.max_failures:
            raise TooManyFailuresError(f"stopped after {self.tally.failed} failures: {self.max_failures} are allowed")

    def tidy(self) -> None:
        """Remove lines that later ones have replaced."""
        if self.journal:
            self.journal.tidy()
        self.failures.tidy()

    def _state(self, work: WorkItem) -> Forecast:
        """Whether this very work is done already, has failed already, or is to be done."""
        name = work.item.id
        if not self.overwrite and self.journal and self.journal.is_done(name, work.key):
            return "done"
        if not (self.retry_failed or self.overwrite) and self.failures.is_known(name, work.key):
            return "failed"
        return "todo"

    def _refresh(self, work: WorkItem) -> None:
        """Count a video that is done already, and write its side-cars where they are missing or differ."""
        self.tally.done_before += 1
        self.failures.drop(work.item.id)
        if self.journal and self.sidecars.kinds:
            failed = self._write_sidecars(work.item, work.key, self.journal.read(work.item.id))
            if failed:
                self.tally.done_before -= 1
                self._fail(failed)

    def _checked(self, work: WorkItem) -> WorkItem:
        """Return `work`, as failed if a side-car's place is taken by a file that no run on this output has written."""
        journal, name = self.journal, work.item.id
        ours = self.overwrite or not journal or name in journal.entries or name in journal.unfinished
        if work.failed or ours:
            return work
        try:
            self.sidecars.check(work.item)
        except SidecarError as error:
            failed = failure(work.item, work.key, "write", error)
            return WorkItem(item=work.item, key=work.key, content=None, failed=failed)
        return work

    def _write(self, done: Captioned) -> None:
        lines = records(done)
        if self.journal:
            self.journal.append(lines)
        self.failures.drop(done.item.id)
        for part in done.parts:
            for stage in part.answer.stages:
                self.tally.flops += stage.flops or 0
                self.tally.flops_dense += stage.flops_dense or 0
        failed = self._write_sidecars(done.item, done.key, lines)
        if failed:
            self._fail(failed)
        else:
            self.tally.done += 1

    def _write_sidecars(self, item: Item, key: str, lines: list[Record]) -> Failed | None:
        try:
            self.sidecars.write(item, lines)
        except OSError as error:
            if is_about_space(error):
                raise
            return failure(item, key, "write", error)
        return None

    def _fail(self, failed: Failed) -> None:
        self.tally.failed += 1
        self.tally.errors.add(failed.kind)
        self.failures.add(failure_record(failed))
        self._events.append(failed)
