"""Progress and warnings of `ipcv ask` on stderr, and progress bars; stdout on the same terminal stays whole."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.control import Control
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar
from rich.segment import ControlType
from rich.text import Text

from ipcv.text import visible
from ipcv_cli.display.render import Progress, cells, facts, is_terminal, line, savings, stderr_console, summary

if TYPE_CHECKING:
    from ipcv.answer import Answer, Event, Stage


class View:
    """Everything on stderr while a question is answered; nothing if `quiet`.

    On a terminal, a table fills with every frame batch and stage. It leaves the screen while stdout writes to the same
    terminal, and comes back at the end. Elsewhere, warnings are plain lines; `verbose` adds the stages, `baseline` the
    savings.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, no_color: bool = False, baseline: bool = False
    ) -> None:
        self._console = stderr_console(no_color=no_color)
        self._console.quiet = quiet
        self._terminal = not quiet and is_terminal(sys.stderr)
        self.animated = self._terminal and self._console.is_interactive
        self._shared = is_terminal(sys.stdout)
        self._verbose, self._baseline = verbose, baseline
        self._live: Live | None = None
        self._status = False  # whether there is a status line, which the next output replaces
        self._answering = False  # whether stdout is writing an answer to a terminal
        self._held: list[Text] = []  # warnings to be shown after the answer
        self._progress = Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        self._answering = False
        self._release()

    def status(self, text: str) -> None:
        """Show a status line, which the next output replaces."""
        if self.animated:
            self._clear()
            self._console.print(Text(visible(text), style="dim"), end="", no_wrap=True, overflow="ellipsis")
            self._status = True

    def make_room(self) -> None:
        """Clear the screen for stdout, which is about to be written to."""
        if self._shared:
            self._clear()
            self._answering = True

    def show(self, event: "Event") -> None:
        """Show an event; stdout has its part already."""
        self._progress.take(event)
        if event.event == "opened":
            self._begin()
        elif event.event == "warning":
            self._held.append(line("warning", event.message))
            self._release()
        elif event.event == "stage":
            self._stage_done(event.stage)
        elif event.event == "final":
            self._finish(event.answer)

    def warn(self, message: str) -> None:
        """Show a warning that is not about the answer."""
        self._held.append(line("warning", message))
        self._release()

    def _begin(self) -> None:
        if self.animated and not self._answering and not self._live:
            self._clear()
            self._live = Live(
                get_renderable=self._progress.table,
                console=self._console,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,  # else Rich sends stdout's text to stderr
                redirect_stderr=False,
            )
            self._live.start()

    def _clear(self) -> None:
        """Remove the live table or the status line from the screen."""
        if self._live:
            self._live.stop()
            self._live = None
        self._clear_status()

    def _clear_status(self) -> None:
        if self._status:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._status = False

    def _release(self) -> None:
        if self._held and not self._answering:
            self._clear_status()  # a live table makes room by itself
            for held in self._held:
                self._console.print(held, soft_wrap=True)
            self._held.clear()

    def _stage_done(self, stage: "Stage") -> None:
        if self._verbose and not self._terminal:
            self._console.print(line(stage.name, ", ".join(filter(None, cells(stage)))), soft_wrap=True)
        if stage.name == "generate":
            self._answering = False
            self._release()
            if self._baseline:
                self.status("running the uncompressed model for comparison")

    def _finish(self, answer: "Answer") -> None:
        self._clear()
        self._answering = False
        self._release()
        if self._verbose:
            self._console.print(*facts(answer), sep="\n", soft_wrap=True)
        if self._terminal:
            self._console.print(summary(answer))
        elif self._verbose or self._baseline:
            self._console.print(*(line("savings", text) for text in savings(answer)), sep="\n", soft_wrap=True)


def count_bar(*, quiet: bool, no_color: bool) -> Bar:
    """A progress bar that counts items, on stderr if that is a terminal; it disappears at the end."""
    return _bar(*Bar.get_default_columns(), MofNCompleteColumn(), quiet=quiet, no_color=no_color)


def byte_bar(*, quiet: bool, no_color: bool) -> Bar:
    """A progress bar for bytes that are fetched, on stderr if that is a terminal; it disappears at the end."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return _bar(*columns, quiet=quiet, no_color=no_color)


def _bar(*columns: ProgressColumn, quiet: bool, no_color: bool) -> Bar:
    console = stderr_console(no_color=no_color)
    return Bar(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,  # else Rich sends stdout's text to stderr
        redirect_stderr=False,
        disable=quiet or not console.is_interactive,
    )
