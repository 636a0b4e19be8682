"""What went wrong, as one line and an exit code."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import typer

from ipcv.errors import IPCVError, MemoryExhaustedError, ModelError, ReaderCrashError, VideoError
from ipcv_cli.display.stdout import write
from ipcv_cli.exit import UsageError, first_interrupt, leaving_at_once, reported


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (VideoError("clip.mp4 is empty: copy it again"), 4, "clip.mp4 is empty: copy it again"),
        (ModelError("no model 'x': try name=\"demo\""), 5, "no model 'x': try --model demo"),
        (MemoryExhaustedError("out of memory: lower max_frames"), 6, "out of memory: lower --max-frames"),
        (ReaderCrashError("the reader of clip.mp4 ended"), 4, "the reader of clip.mp4 ended"),
        (IPCVError("something else"), 1, "something else"),
        (ValueError("keep=2 must be at most 1"), 2, "keep=2 must be at most 1"),
        (ImportError("no libx"), 1, "cannot import what is needed (no libx): install ipcv again"),
        (
            MemoryError(),
            6,
            "out of memory: use fewer frames (--max-frames), smaller ones (--max-pixels) or a smaller model",
        ),
        (
            RuntimeError("shapes differ\nby far"),
            1,
            r"RuntimeError: shapes differ\nby far (this is a bug in ipcv or in a library; --debug shows where)",
        ),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            1,
            "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: bad "
            "(this is a bug in ipcv or in a library; --debug shows where)",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "no space left where the output goes: make room, or write it somewhere else",
        ),
        (VideoError("bad\x1b[2J name"), 4, r"bad\x1b[2J name"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_one_line_and_a_code(error, code, message, capsys):
    with pytest.raises(typer.Exit) as caught, reported():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr() == ("", f"ipcv: error: {message}\n")


def test_debug_shows_the_traceback_before_the_line(capsys):
    with pytest.raises(typer.Exit), reported(debug=True):
        raise VideoError("no such file")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ipcv: error: no such file"


def test_an_interrupt_is_one_word_and_130(capfd):
    with pytest.raises(typer.Exit) as caught, reported():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capfd.readouterr() == ("", "ipcv: interrupted\n")


SWALLOWED = """
import os, signal, sys, time
from ipcv_cli.exit import end_on_sigterm, reported

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.1)  # the signal comes here, where no exception gets out

end_on_sigterm()
try:
    with reported():
        Dropped()
        time.sleep(20)
except BaseException as end:
    sys.exit(getattr(end, "exit_code", None) or end.code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_whose_exception_python_drops_is_obeyed_a_moment_later(number, code):
    command = [sys.executable, "-c", SWALLOWED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == ("ipcv: interrupted\n" if code == 130 else "")


def test_a_closed_pipe_is_silent_success_and_what_is_left_goes_nowhere(capfd, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(typer.Exit) as caught, reported():
            write("red.\n")
    assert caught.value.exit_code == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("end", [typer.Exit(3), UsageError("no"), SystemExit(143)])
def test_what_already_says_how_to_end_passes(end, capsys):
    with pytest.raises(type(end)) as caught, reported():
        raise end
    assert caught.value is end
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_while_libraries_load_ends_the_process_whatever_they_would_make_of_it():
    code = """if True:
        import os, signal
        from ipcv_cli.exit import leaving_at_once
        with leaving_at_once():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("broken")
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ipcv: interrupted\n")


def test_afterwards_an_interrupt_is_an_exception_again():
    with leaving_at_once():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_interrupt_is_noted_and_the_second_ends_all():
    with first_interrupt() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
