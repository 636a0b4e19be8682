"""Progress of `ipcv caption` on stderr: a bar on a terminal, log lines elsewhere, and a summary at the end."""

import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from ipcv.text import visible
from ipcv_cli.display.render import is_terminal, line, stderr_console

if TYPE_CHECKING:
    from ipcv.batch.plan import Cause, Failed, Outcome
    from ipcv.output.resume import Tally

EVERY = 10.0  # seconds between two log lines
WHY: "dict[Cause, str]" = {"budget": "for the budget of visual tokens", "memory": "because memory ran out"}


class BatchView:
    """Progress of a batch on stderr. `quiet`: nothing but errors."""

    def __init__(self, *, quiet: bool = False, no_color: bool = False, shared: bool = False) -> None:
        """`shared`: captions go to the same terminal, so that there is no bar."""
        self._console = stderr_console(no_color=no_color)
        self.quiet = quiet
        self._console.quiet = quiet
        self._errors = stderr_console(no_color=no_color)  # which quiet lets through
        self.animated = not quiet and is_terminal(sys.stderr) and self._console.is_interactive
        self._bar = self.animated and not shared
        self._live: Live | None = None
        self._status = False  # whether there is a status line, which the next output replaces
        self._tally: Tally | None = None
        self._current = ""
        self._began = self._logged = time.monotonic()
        self._warned: set[str] = set()
        self._lowered: Counter[Cause] = Counter()  # videos for which something was lowered, by cause

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status("")
        if self._live:
            self._live.stop()
            self._live = None

    def status(self, text: str) -> None:
        """Say on a terminal what is being done while no video is: beside the bar, or on a line that is wiped later."""
        self._current = visible(text)
        if self._status:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._status = False
        if text and self.animated and not self._live:
            self._console.print(Text(self._current, style="dim"), end="", no_wrap=True, overflow="ellipsis")
            self._status = True

    def warn(self, message: str) -> None:
        """Print a warning, unless it was printed before."""
        if message not in self._warned:
            self._warned.add(message)
            self.say("warning", message)

    def say(self, kind: str, message: str) -> None:
        """Print a line."""
        if self._status:
            self.status("")
        self._console.print(line(kind, message), soft_wrap=True)

    def begin(self, tally: "Tally") -> None:
        """Start the bar: the first video is about to be read."""
        self.status("")
        self._tally, self._began = tally, time.monotonic()
        self._logged = self._began
        if self._bar:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,  # or Rich sends what is meant for stdout to stderr
                redirect_stderr=False,
            )
            self._live.start()

    def failed(self, failed: "Failed") -> None:
        """Print why a video could not be captioned."""
        name = visible(failed.item.id)
        message = visible(failed.message)
        names_itself = failed.item.id == failed.item.video and name in message
        self._complain("failed", message if names_itself else f"{name}: {message}")

    def error(self, message: str) -> None:
        """Print why the run ends."""
        self._complain("error", message)

    def _complain(self, kind: str, message: str) -> None:
        if self._status:
            self.status("")
        console = self._console if self._live else self._errors  # only the live one knows its bar
        console.print(line(kind, message), soft_wrap=True)

    def show(self, outcome: "Outcome") -> None:
        """Show an outcome. Warnings about answers are in the output; the first of each kind is printed as well."""
        self._current = visible(outcome.item.id)
        lowered = [each for part in getattr(outcome, "parts", ()) for each in part.lowered]
        for cause in dict.fromkeys(cause for cause, _ in lowered):
            if not self._lowered[cause]:
                message = next(message for why, message in lowered if why == cause)
                self.say("warning", f"{self._current}: {message}")
            self._lowered[cause] += 1
        self.advance()

    def end(self, how: str, failures: Path | None, *, resumable: bool) -> None:
        """Print the summary; `resumable` if the output remembers which videos are done."""
        if self._live:
            self._live.stop()
            self._live = None
        for cause, count in self._lowered.items():
            if count > 1:
                others = f"{count - 1} more {'video' if count == 2 else 'videos'}"
                self.say("warning", f"{others} got less, {WHY[cause]}: warnings in the output say how")
        where = f"; failures are in {failures}" if failures and failures.exists() else ""
        again = "; the same command goes on from here" if how == "interrupted" and resumable else ""
        if self._tally and self._tally.failed_before and how != "dry run":
            again = f"; `retry_failed` tries again what failed before{again}"
            if self.quiet:  # the exit code is about them, and nothing else says why
                self._complain("failed", f"{self._tally.failed_before} failed before; `retry_failed` tries them again")
        idle = self._nothing_to_do() if how == "done" else ""
        self.say("nothing to do" if idle else how, (idle or self.state()) + where + again)

    def _nothing_to_do(self) -> str:
        """A line for a run to which earlier runs left nothing to do."""
        tally = self._tally
        if tally is None or tally.done or tally.failed or tally.left:
            return ""
        if tally.failed_before:
            return f"{tally.done_before} done before, {tally.failed_before} failed before"
        return f"all {tally.total} were done before" if tally.total > 1 else "it was done before"

    def advance(self) -> None:
        """Print a line of progress now and then, unless there is a bar."""
        if not self._live and time.monotonic() - self._logged >= EVERY:
            self._logged = time.monotonic()
            self.say("progress", f"{self.state()}, now {self._current}")

    def state(self) -> str:
        """Videos done, failed and left, the pace, the time to go and the share of FLOPs."""
        tally = self._tally
        if tally is None:
            return ""
        spent, worked = time.monotonic() - self._began, tally.done + tally.failed
        parts = [f"{tally.done + tally.done_before} done", f"{tally.failed + tally.failed_before} failed"]
        parts.append(f"{tally.left} left")
        if tally.done and spent:
            parts.append(f"{60 * tally.done / spent:.1f} videos per minute")
        if worked and tally.left:
            parts.append(f"{_duration(tally.left * spent / worked)} to go")
        if tally.flops_dense:
            parts.append(f"{tally.flops / tally.flops_dense:.0%} of the uncompressed FLOPs")
        return ", ".join(parts)

    def _render(self) -> Group:
        tally = self._tally
        bar = ProgressBar(total=tally.total, completed=tally.total - tally.left, width=30) if tally else Text()
        row = Table.grid(padding=(0, 1))
        row.add_row(bar, Text(self.state()))
        return Group(row, Text(self._current, style="dim", no_wrap=True, overflow="ellipsis"))


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _duration(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
