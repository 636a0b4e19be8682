"""The memory of a run: which videos are done or have failed, which are left, and where each result goes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ipcv.batch.engine import Warn
from ipcv.batch.items import Item
from ipcv.batch.plan import Captioned, Failed, Outcome, Plan, WorkItem, describe, failure
from ipcv.errors import ErrorKind, SidecarError, TooManyFailuresError, is_about_space
from ipcv.media.remote.access import Access
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal
from ipcv.output.lines import Record
from ipcv.output.records import failure_record, records
from ipcv.output.sidecars import Sidecars
from ipcv.output.streams import Stream
from ipcv.text import shown

Forecast = Literal["done", "failed", "todo", "replace"]  # replace: to do, in place of captions that the output has


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
    replaced: int = 0  # of a forecast: the output has captions of them from other settings or contents
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
        self.replaced += state == "replace"


@dataclass(kw_only=True)
class Batch:
    """The items of a run, and their output."""

    items: Sequence[Item]
    plan: Plan
    model: dict[str, Any]  # as `fingerprint.model` describes it
    journal: Journal | None  # None: nothing is remembered
    stream: Stream | None = None  # gets each line as well
    failures: Failures
    sidecars: Sidecars
    warn: Warn
    access: Access | None = None  # how far remote videos may be followed
    overwrite: bool = False  # replace captions from other settings or contents
    retry_failed: bool = False  # do again what has failed
    max_failures: int | None = None

    def __post_init__(self) -> None:
        self.tally = Tally(len(self.items))
        self._events: list[Outcome] = []
        known = [item for item in self.items if self.journal and self.journal.knows(item.id)]
        self._works = {item.id: describe(self.plan, self.model, item, self.access) for item in known}

    def check(self) -> None:
        """Raise `ValueError` if captions would be replaced and `overwrite` does not allow it."""
        others = [work.item.id for work in self._works.values() if self._state(work) == "replace"]
        if self.journal and others and not self.overwrite:
            some = f"{len(others)} of these videos" if len(others) > 1 else shown(others[0])
            why = f"has captions of {some} from other settings, contents or an earlier version"
            ways = "name another `output` to keep them, or give `overwrite` to replace them"
            raise ValueError(f"{shown(self.journal.path)} {why}: {ways}")

    def todo(self) -> Iterator[WorkItem]:
        """Yield the work that is left, in order, and mend the side-cars of what is done already."""
        for item in self.items:
            work = self._described(item)
            match self._state(work):
                case "done":
                    self._refresh(work)
                case "failed":
                    self.tally.failed_before += 1
                    self.tally.errors.add(self.failures.records[item.id].get("kind", "other"))
                case "todo" | "replace":
                    yield self._checked(work)

    def forecast(self) -> Iterator[tuple[Item, Forecast]]:
        """Yield what `todo` would make of every item, without doing anything."""
        for item in self.items:
            yield item, self._state(self._described(item))

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
        """Remove the lines that were to be replaced."""
        if self.journal:
            self.journal.tidy()
        self.failures.tidy()

    def _described(self, item: Item) -> WorkItem:
        return self._works.pop(item.id, None) or describe(self.plan, self.model, item, self.access)

    def _state(self, work: WorkItem) -> Forecast:
        """Whether this very work is done already, has failed already, or is to be done."""
        name, journal = work.item.id, self.journal
        if journal and journal.is_done(name, work.key):
            return "done"
        if not (self.retry_failed or self.overwrite) and self.failures.is_known(name, work.key):
            return "failed"
        return "replace" if journal and not work.failed and journal.has_others(name, work.key) else "todo"

    def _refresh(self, work: WorkItem) -> None:
        """Count a video that is done already, and write its side-cars where they are missing or differ."""
        name, key, journal = work.item.id, work.key, self.journal
        self.tally.done_before += 1
        self.failures.drop(name)
        if journal and self.overwrite:
            journal.replace(name, key)
        if journal and self.sidecars.kinds:
            failed = self._write_sidecars(work.item, key, journal.read(name, key))
            if failed:
                self.tally.done_before -= 1
                self._fail(failed)

    def _checked(self, work: WorkItem) -> WorkItem:
        """Return `work`, as failed if a side-car's place is taken by a file that no run on this output has written."""
        is_ours = self.journal is not None and self.journal.knows(work.item.id)
        if work.failed or self.overwrite or is_ours:
            return work
        try:
            self.sidecars.check(work.item)
        except SidecarError as error:
            failed = failure(work.item, work.key, "write", error)
            return WorkItem(item=work.item, key=work.key, content=None, failed=failed)
        return work

    def _write(self, done: Captioned) -> None:
        lines = records(done)
        if self.stream:
            self.stream.write(lines)
        if self.journal:
            self.journal.append(lines)
            if self.overwrite:
                self.journal.replace(done.item.id, done.key)
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
