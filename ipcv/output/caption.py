"""`ipcv.caption`: any number of videos captioned into files, by a run that can be stopped and resumed."""

import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from ipcv.batch.engine import Engine, EngineRun, EngineSettings, LocalEngine, Warn
from ipcv.batch.folders import summary
from ipcv.batch.inputs import Inputs
from ipcv.batch.items import Item
from ipcv.batch.plan import Outcome, Plan, WorkItem
from ipcv.errors import TooManyFailuresError
from ipcv.extras import require
from ipcv.inference.model import Model
from ipcv.models.source import ModelSource
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal
from ipcv.output.parquet import write_parquet
from ipcv.output.places import Places
from ipcv.output.resume import Batch, Forecast, Tally
from ipcv.output.sidecars import Sidecars
from ipcv.output.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The output is open, and the first video is about to be read."""

    tally: Tally  # counts on as the run goes on
    passed_over: str = ""  # files in folders that are no videos: how many, by ending


RunEvent = Begun | Outcome


def caption(
    inputs: str | Path | Iterable[str | Path] | Inputs,
    output: str | Path | None = None,
    plan: Plan | None = None,
    *,
    model: str | ModelSource | Model | None = None,
    engine: Engine | None = None,
    sidecars: Iterable[str] = (),
    output_dir: Path | None = None,
    parquet: Path | None = None,
    failures: Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failures: int | None = None,
    warn: Warn = warnings.warn,
) -> "CaptionRun":
    """Caption videos, and yield what happens.

    >>> import ipcv
    >>> plan = ipcv.Plan(questions=("What happens?",))
    >>> for event in ipcv.caption("clips/", "captions.jsonl", plan, model="demo"):
    ...     if isinstance(event, ipcv.Captioned):
    ...         print(event.item.id, event.parts[0].answer.answer)

    Iterating does the work: a `Begun`, then for each video a `Started` and a `Captioned` or a `Failed`. `output` gets
    a JSON line for each answer. What is in it already is not done again, so that the same call goes on where an
    earlier one stopped; `retry_failed` does again what has failed. Captions of the same videos from other settings or
    contents are never removed without `overwrite`, which replaces them. `plan` says what is asked and how. `model` runs
    in this process with the default settings; an `engine` in its place has others. `sidecars`, `output_dir`, `parquet`
    and `failures` are as in `Places`. `warn` gets warnings that are not about one video.

    A video that fails does not end the run; more than `max_failures` do, with `TooManyFailuresError`. Raises
    `ValueError` for settings that make no sense, `VideoError` if there is no video, `OutputBusyError` if another run
    writes `output`, `OSError`, and errors as of `ipcv.load`.
    """
    if engine is None:
        engine = _engine(ModelSource() if model is None else model)
    elif model is not None:
        raise ValueError("an engine has a model already: give one of the two")
    return CaptionRun(
        inputs=Inputs.of(inputs),
        places=Places(
            output=None if output is None else Path(output),
            sidecars=tuple(dict.fromkeys(sidecars)),
            output_dir=output_dir,
            parquet=parquet,
            failures=failures,
        ),
        plan=replace(plan or Plan(), fit=engine.settings.source.fit),
        engine=engine,
        overwrite=overwrite,
        retry_failed=retry_failed,
        max_failures=max_failures,
        warn=warn,
    )


@dataclass(kw_only=True, eq=False)
class CaptionRun:
    """A run of `caption`, which describes its fields. Iterate over it once, or over `forecast`."""

    inputs: Inputs
    places: Places
    plan: Plan
    engine: Engine
    overwrite: bool = False
    retry_failed: bool = False
    max_failures: int | None = None
    warn: Warn = warnings.warn
    has_failures: bool = field(init=False, default=False)  # whether the file of failures holds any
    passed_over: str = field(init=False, default="")  # as in `Begun`, once the videos are found

    def __iter__(self) -> Generator[RunEvent, None, None]:
        """Caption the videos."""
        items, sidecars = self._checked()
        self.places.make_folder()
        if self.plan.segments and self.plan.segments.seconds is None:
            require("scenedetect")
        engine = self.engine.start(self.plan, self.warn)
        with ExitStack() as stack:
            journal = self._journal(stack)
            stream = stack.enter_context(Stream(self.places.stream)) if self.places.stream else None
            batch = self._batch(items, sidecars, engine, journal, stream)
            batch.check()
            yield Begun(tally=batch.tally, passed_over=self.passed_over)
            try:
                yield from self._work(batch, engine)
            except TooManyFailuresError:
                batch.tidy()
                raise
            finally:
                self.has_failures = bool(batch.failures.records)
            batch.tidy()
            if self.places.parquet and journal:
                write_parquet(self.places.parquet, journal.records())

    def forecast(self) -> Iterator[tuple[Item, Forecast]]:
        """Tell of every item if it is done, has failed, is to be done or replaced; nothing is fetched or written."""
        items, sidecars = self._checked()
        engine = self.engine.start(self.plan, self.warn, offline=True)
        journal = Journal(self.places.journal) if self.places.journal else None
        if journal:
            journal.look()
        yield from self._batch(items, sidecars, engine, journal).forecast()

    def _checked(self) -> tuple[list[Item], Sidecars]:
        """The videos of this run and their side-cars, once it is certain that all files can be written."""
        found, places = self.inputs.collect(), self.places
        self.passed_over = summary(found.passed)
        places.check()
        sidecars = Sidecars(kinds=places.sidecars, folder=places.output_dir, items=tuple(found.everything))
        return found.chosen, sidecars

    def _journal(self, stack: ExitStack) -> Journal | None:
        """The output, held until `stack` ends."""
        if not self.places.journal:
            return None
        journal = stack.enter_context(Journal(self.places.journal))
        if journal.repaired:
            self.warn(
                f"{journal.path}: {journal.repaired} bytes of a line that an earlier run left unfinished are removed"
            )
        return journal

    def _batch(
        self,
        items: list[Item],
        sidecars: Sidecars,
        engine: EngineRun,
        journal: Journal | None,
        stream: Stream | None = None,
    ) -> Batch:
        return Batch(
            items=items,
            plan=self.plan,
            model=engine.identity,
            journal=journal,
            stream=stream,
            failures=Failures(self.places.failures_file, self.places.journal),
            sidecars=sidecars,
            warn=self.warn,
            access=self.engine.settings.access,
            overwrite=self.overwrite,
            retry_failed=self.retry_failed,
            max_failures=self.max_failures,
        )

    def _work(self, batch: Batch, engine: EngineRun) -> Iterator[Outcome]:
        with closing(_outcomes(batch.todo(), engine)) as outcomes:
            for outcome in outcomes:
                batch.take(outcome)
                yield from batch.events()
                batch.check_failures()
        yield from batch.events()  # side-cars of captioned videos that could not be written anew
        batch.check_failures()


def _engine(model: str | ModelSource | Model) -> LocalEngine:
    if isinstance(model, Model):
        return LocalEngine(model=model)
    return LocalEngine(EngineSettings(source=ModelSource.of(model)))


def _outcomes(works: Iterator[WorkItem], engine: EngineRun) -> Generator[Outcome, None, None]:
    """Run the engine over `works`; those at the front that cannot be opened fail before a model is loaded."""
    for work in works:
        if not work.failed:
            with closing(engine.run(chain([work], works))) as outcomes:
                yield from outcomes
            return
        yield work.failed
