"""How a command ends: an error as one line on stderr and an exit code, Ctrl-C, and a closed pipe."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import typer

from ipcv.errors import ErrorKind, IPCVError, error_kind, is_about_space
from ipcv_cli.display.parameters import as_options
from ipcv_cli.display.stdio import abandon

ERROR, USAGE, PARTLY, VIDEO, MODEL, MEMORY, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 6, 130, 143
_INTERRUPTED = "ipcv: interrupted\n"
EXIT_CODES: dict[ErrorKind, int] = {"video": VIDEO, "model": MODEL, "memory": MEMORY, "settings": USAGE, "other": ERROR}


class UsageError(typer.TyperException):
    """Options or arguments that make no sense together."""

    exit_code = USAGE


@contextmanager
def leaving_at_once(*, sigterm: bool = False) -> Iterator[None]:
    """Ctrl-C ends the process on the spot: for work that takes an exception badly and leaves nothing to tidy up.

    Compiled code may abort, and a library may take the exception for a broken installation. The status line is wiped
    and the cursor shown first. With `sigterm`, that signal does so too: for threads that an exception would wait for.
    """
    before: dict[signal.Signals, Any] = {}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or somebody else's
        before[signal.SIGINT] = signal.signal(signal.SIGINT, partial(_leave, INTERRUPTED))
    if sigterm and callable(signal.getsignal(signal.SIGTERM)):  # the handler of `ipcv_cli.main.run`
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, partial(_leave, TERMINATED))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(code: int, *_: object) -> None:
    with suppress(OSError):  # stderr is closed
        if os.isatty(2):
            os.write(2, b"\r\x1b[2K\x1b[?25h")
        if code == INTERRUPTED:
            os.write(2, _INTERRUPTED.encode())
    os._exit(code)


def end_on_sigterm() -> None:
    """SIGTERM becomes `SystemExit`: open files are closed and helpers ended first.

    Python drops an exception that a signal raises inside a destructor, or in another call that nobody waits for. Such
    a signal, and a Ctrl-C, is sent once more.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.unraisablehook = _once_more


def _once_more(dropped: Any) -> None:
    """Send the signal again whose exception was dropped, a moment later, when the call is over."""
    numbers = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
    if (number := numbers.get(dropped.exc_type)) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(dropped)


@contextmanager
def first_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C only sets a flag, which the yielded function returns; the second raises as usual."""
    before = signal.getsignal(signal.SIGINT)
    is_set = False

    def note(*_: object) -> None:
        nonlocal is_set
        is_set = True
        signal.signal(signal.SIGINT, before)

    if before is signal.default_int_handler:  # else it is ignored, or somebody else's
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def reported(
    *, debug: bool = False, no_color: bool = False, tell: Callable[[str, int], None] | None = None
) -> Iterator[None]:
    """Every error in the `with` becomes a line on stderr and a `typer.Exit` with its code.

    A closed pipe ends the command quietly and with success: its reader has had enough. `debug` shows the traceback
    first. `tell` gets the message and the code as well.
    """
    try:
        yield
    except (typer.Exit, typer.TyperException):
        raise
    except KeyboardInterrupt:
        with suppress(OSError):  # stderr is closed
            os.write(2, _INTERRUPTED.encode())
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        abandon(sys.stdout)
        raise typer.Exit from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError):
            abandon(sys.stdout)
        message, code = as_options(_message(error)), EXIT_CODES[error_kind(error)]
        complain(message, no_color=no_color)
        if tell:
            with suppress(OSError):  # nobody reads stdout any more; stderr has the message
                tell(message, code)
        raise typer.Exit(code) from error


def complain(message: str, *, no_color: bool = False) -> None:
    """Print `ipcv: error: message` on stderr, as one line."""
    from ipcv_cli.display.render import line, stderr_console

    stderr_console(no_color=no_color).print(line("error", message), soft_wrap=True)


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory: use fewer frames (--max-frames), smaller ones (--max-pixels) or a smaller model"
    if isinstance(error, OSError) and is_about_space(error):
        return "no space left where the output goes: make room, or write it somewhere else"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}; name another place, or make this one usable"
    if isinstance(error, ImportError):
        return f"cannot import what is needed ({error}): install ipcv again"
    if isinstance(error, IPCVError) or error_kind(error) == "settings":
        return str(error)
    return f"{type(error).__name__}: {error} (this is a bug in ipcv or in a library; --debug shows where)"
