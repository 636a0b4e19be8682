"""The run of `ipcv caption`: shows what the library's run yields, and turns it into an exit code."""

import sys
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from ipcv.errors import TooManyFailuresError
from ipcv.text import visible
from ipcv_cli.display.render import is_terminal
from ipcv_cli.display.stdio import check_stdout
from ipcv_cli.exit import EXIT_CODES, INTERRUPTED, PARTLY

if TYPE_CHECKING:
    from ipcv.output.caption import CaptionRun
    from ipcv.output.lines import Record
    from ipcv.output.resume import Tally
    from ipcv_cli.display.caption_view import BatchView

Emit = Callable[[list["Record"]], None]  # brings the lines of a video to stdout


def follow(run: "CaptionRun", view: "BatchView", emit: Emit) -> int:
    """Do the run, show it, and return its exit code."""
    from ipcv.batch.plan import Captioned, Failed
    from ipcv.output.caption import Begun
    from ipcv.output.records import records

    tally: Tally | None = None
    ended = "interrupted"
    try:
        with closing(iter(run)) as events:
            for event in events:
                if isinstance(event, Begun):
                    tally = event.tally
                    _begin(run, view, tally)
                    continue
                if isinstance(event, Captioned):
                    view.status("")
                    emit(records(event))
                elif isinstance(event, Failed):
                    view.failed(event)
                view.show(event)
        ended = "done"
    except TooManyFailuresError as error:
        ended = "stopped"
        view.error(str(error))
    except KeyboardInterrupt:
        if tally is None:
            raise
        raise typer.Exit(INTERRUPTED) from None  # the summary says so
    except Exception:
        ended = "stopped"
        raise
    finally:
        if tally:
            places = run.places
            view.end(ended, places.failures_file if run.has_failures else None, resumable=places.journal is not None)
    return exit_code(tally) if tally else 0


def forecast(run: "CaptionRun", view: "BatchView") -> int:
    """List what is done, what has failed and what is left, without doing anything."""
    from ipcv.output.resume import Tally
    from ipcv_cli.display.stdout import write

    tally = Tally(0)
    for item, state in run.forecast():
        tally.count(state)
        write(f"{state}\t{visible(item.id)}\n")
    _tell_passed_over(run, view)
    view.begin(tally)
    view.end("dry run", None, resumable=False)
    if tally.replaced:
        what = f"{tally.replaced} have captions from other settings, contents or an earlier version"
        view.say("replace", f"{what}: {'they would be replaced' if run.overwrite else '`overwrite` replaces them'}")
    return 0


def emitter(*, to_stdout: bool, as_json: bool) -> Emit:
    """A function that writes lines to stdout, for people if it is a terminal; or to nowhere."""
    if not to_stdout:
        return lambda _: None
    check_stdout()
    from ipcv.output.lines import line
    from ipcv_cli.display.stdout import write

    if as_json or not is_terminal(sys.stdout):
        return lambda lines: write(b"".join(map(line, lines)).decode())
    return lambda lines: write("".join(map(_readable, lines)))


def exit_code(tally: "Tally") -> int:
    """0 if nothing failed. If nothing else is left, the code of what all failed of; 3 for everything in between."""
    if not tally.failed + tally.failed_before:
        return 0
    if tally.left == tally.done == tally.done_before == 0:
        for kind in ("video", "memory"):
            if tally.errors == {kind}:
                return EXIT_CODES[kind]
    return PARTLY


def _begin(run: "CaptionRun", view: "BatchView", tally: "Tally") -> None:
    _tell_passed_over(run, view)
    places = run.places
    if places.stream:
        view.say("output", f"{places.stream} is no file: nothing is remembered, and the same command starts anew")
    elif places.output is None and places.journal:
        view.say("output", f"{places.journal} remembers what is done; -o names another file, and -o - does without")
    view.begin(tally)


def _tell_passed_over(run: "CaptionRun", view: "BatchView") -> None:
    if run.passed_over:
        view.say("passed over", f"{run.passed_over}, which are no videos; --glob takes what it names")


def _readable(record: "Record") -> str:
    """A caption for people."""
    span = f" [{record['start']:.1f} to {record['end']:.1f} s]" if record["parts"] > 1 else ""
    return f"{visible(record['id'])}{span}: {visible(record['answer'])}\n"
