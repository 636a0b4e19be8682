"""The run of a batch: what `ipcv caption` does once it knows what is wanted."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from ipcv.text import visible
from ipcv_cli.captioning.engines import Engine, engine
from ipcv_cli.captioning.request import Places, Requests, Wanted
from ipcv_cli.exit import EXIT_CODES, PARTLY, leaving_at_once

if TYPE_CHECKING:
    from collections.abc import Generator

    from ipcv.batch.inputs import Item
    from ipcv.batch.plan import Outcome, Plan, WorkItem
    from ipcv.output.resume import Batch
    from ipcv_cli.display.caption_view import BatchView


def run_batch(
    wanted: Wanted, requests: Requests, places: Places, view: "BatchView", *, dry_run: bool, no_color: bool
) -> int:
    """Caption what is wanted, or say what would be; the exit code."""
    with leaving_at_once():
        everything, items = wanted.items()
        plan = requests.plan()
        if not everything:
            return _nothing(wanted, view)
        if not dry_run:
            places.check()
    with ExitStack() as stack:
        with leaving_at_once():
            chosen = engine(requests, plan, view, stack, dry_run=dry_run, no_color=no_color)
        batch = _batch(everything, items, plan, chosen.identity, requests, places, view, stack, dry_run=dry_run)
        if dry_run:
            return _forecast(batch, view)
        return _work(batch, chosen, places, view)


def _batch(
    everything: Sequence["Item"],
    items: Sequence["Item"],
    plan: "Plan",
    identity: dict[str, Any],
    requests: Requests,
    places: Places,
    view: "BatchView",
    stack: ExitStack,
    *,
    dry_run: bool,
) -> "Batch":
    """The items with their output, which is held until `stack` ends."""
    from ipcv.output.failures import Failures
    from ipcv.output.journal import Journal
    from ipcv.output.resume import Batch
    from ipcv.output.sidecars import Sidecars

    journal = Journal(places.journal) if places.journal else None
    if journal and dry_run:
        journal.look()
    elif journal:
        stack.enter_context(journal)
        if journal.repaired:
            view.warn(f"{journal.path}: {journal.repaired} bytes that an earlier run left unfinished are removed")
        if places.output is None:
            view.say("output", str(journal.path))
    kinds = tuple(dict.fromkeys(places.sidecars))
    return Batch(
        items=items,
        plan=plan,
        model=identity,
        journal=journal,
        failures=Failures(places.failures_file()),
        sidecars=Sidecars(kinds=kinds, folder=places.folder, items=tuple(everything)),
        emit=places.emit(),
        on_failure=view.failed,
        on_replace=lambda: view.warn(
            f"{places.journal} has captions from other settings or contents: they are replaced"
        ),
        overwrite=requests.overwrite,
        retry_failed=requests.retry_failed,
        max_failures=requests.max_failures,
    )


def _work(batch: "Batch", chosen: Engine, places: Places, view: "BatchView") -> int:
    """Everything there is to do; the exit code."""
    from ipcv.errors import TooManyFailuresError

    view.begin(batch.tally)
    ended = "interrupted"
    try:
        with closing(_outcomes(batch.todo(), chosen)) as outcomes:
            for outcome in outcomes:
                batch.take(outcome)
                view.show(outcome)
        ended = "done"
    except TooManyFailuresError as error:
        ended = "stopped"
        view.error(str(error))
    finally:
        view.end(ended, batch.failures.path if batch.failures.records else None, resumable=batch.journal is not None)
    batch.tidy()
    if places.parquet and batch.journal and ended == "done":
        from ipcv.output.parquet import write_parquet

        write_parquet(places.parquet, batch.journal.records())
    return _code(batch)


def _outcomes(works: Iterator["WorkItem"], chosen: Engine) -> "Generator[Outcome, None, None]":
    """What becomes of every one of `works`. What cannot be opened fails without a model, which takes time to load."""
    for work in works:
        if not work.failed:
            outcomes = chosen.outcomes(chain([work], works))
            with closing(cast("Generator[Outcome, None, None]", outcomes)):
                yield from outcomes
            return
        yield work.failed


def _forecast(batch: "Batch", view: "BatchView") -> int:
    """List what is done, what has failed and what is left, without doing anything."""
    from ipcv_cli.display.stdout import write

    view.begin(batch.tally)
    for item, state in batch.forecast():
        write(f"{state}\t{visible(item.id)}\n")
    view.end("dry run", None, resumable=False)
    return 0


def _nothing(wanted: Wanted, view: "BatchView") -> int:
    """There is no video: an empty list is done at once, a folder without any is an error."""
    if "-" in wanted.sources:
        view.say("done", "the list is empty")
        return 0
    from ipcv.errors import VideoError

    raise VideoError(f"no video in {', '.join(map(visible, wanted.sources))}: name others, or give --glob '*'")


def _code(batch: "Batch") -> int:
    tally = batch.tally
    if not tally.failed + tally.failed_before:
        return 0
    if tally.left == tally.done == tally.done_before == 0:  # all that there is has failed
        for kind in ("video", "memory"):
            if tally.errors == {kind}:
                return EXIT_CODES[kind]
    return PARTLY
