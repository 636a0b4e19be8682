"""A batch that can be stopped and taken up again: what is left to do, and where results go."""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipcv.batch.inputs import Item
from ipcv.batch.plan import Captioned, Failed, Outcome, Plan, WorkItem, describe, failure
from ipcv.errors import ErrorKind, SidecarError, TooManyFailuresError
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal, Record
from ipcv.output.records import failure_record, records
from ipcv.output.sidecars import Sidecars

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Tally:
    """How far a batch has come. FLOPs are computed, over all that this run did."""

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


@dataclass(kw_only=True)
class Batch:
    """Items on their way to an output."""

    items: Sequence[Item]
    plan: Plan
    model: dict[str, Any]  # `identity.model`
    journal: Journal | None  # None: nothing is remembered
    failures: Failures
    sidecars: Sidecars
    emit: Callable[[list[Record]], None] = lambda _: None  # also gets the lines of every video that is done
    on_failure: Callable[[Failed], None] = lambda _: None  # gets every video that failed
    on_replace: Callable[[], None] = lambda: None  # called for every video whose lines are about other settings
    overwrite: bool = False  # do what is done again
    retry_failed: bool = False  # and what has failed
    max_failures: int | None = None

    def __post_init__(self) -> None:
        self.tally = Tally(len(self.items))

    def todo(self) -> Iterator[WorkItem]:
        """What is left to do, in order; side-cars of what is done already are made if they are missing."""
        for item in self.items:
            work = describe(self.plan, self.model, item)
            if not self.overwrite and self.journal and self.journal.is_done(item.id, work.key):
                self._refresh(work)
            elif not (self.retry_failed or self.overwrite) and self.failures.is_known(item.id, work.key):
                self.tally.failed_before += 1
                self.tally.errors.add(self.failures.records[item.id].get("kind", "other"))
            else:
                if self.journal and item.id in self.journal.entries and not self.overwrite:
                    self.on_replace()
                yield self._checked(work)

    def forecast(self) -> Iterator[tuple[Item, str]]:
        """What would become of every item: done, failed (and not to be tried again), or todo."""
        for item in self.items:
            work = describe(self.plan, self.model, item)
            if not self.overwrite and self.journal and self.journal.is_done(item.id, work.key):
                self.tally.done_before += 1
                yield item, "done"
            elif not (self.retry_failed or self.overwrite) and self.failures.is_known(item.id, work.key):
                self.tally.failed_before += 1
                yield item, "failed"
            else:
                yield item, "todo"

    def take(self, outcome: Outcome) -> None:
        """Bring an outcome to where it belongs.

        Raises `OSError` where there is no room left, `TooManyFailuresError`.
        """
        if isinstance(outcome, Captioned):
            self._write(outcome)
        elif isinstance(outcome, Failed):
            self._fail(outcome)

    def tidy(self) -> None:
        """Remove what has been replaced."""
        if self.journal:
            self.journal.tidy()
        self.failures.tidy()

    def _refresh(self, work: WorkItem) -> None:
        self.tally.done_before += 1
        self.failures.drop(work.item.id)
        if self.journal and self.sidecars.kinds:
            failed = self._write_sidecars(work.item, work.key, self.journal.read(work.item.id))
            if failed:
                self.tally.done_before -= 1
                self._fail(failed)

    def _checked(self, work: WorkItem) -> WorkItem:
        """`work`, or its failure if a file is in the way that no caption of ours has written."""
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
        self.emit(lines)
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
            if error.errno in NO_ROOM:
                raise
            return failure(item, key, "write", error)
        return None

    def _fail(self, failed: Failed) -> None:
        self.tally.failed += 1
        self.tally.errors.add(failed.kind)
        self.failures.add(failure_record(failed))
        self.on_failure(failed)
        if self.max_failures is not None and self.tally.failed > self.max_failures:
            raise TooManyFailuresError(f"stopped after {self.tally.failed} failures: {self.max_failures} are allowed")
