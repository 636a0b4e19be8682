"""A reader process, as the process that started it sees it."""

import fcntl
import logging
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

from ipcv.errors import ErrorKind, MemoryExhaustedError, ReaderCrashError, ReadTimeoutError, VideoError
from ipcv.readers.channel import Channel, GarbledError
from ipcv.readers.memory import EXIT_MEMORY
from ipcv.text import shown

TRIES = 3  # processes that a file gets if each of them ends before it begins to read
START = 120.0  # seconds a reader process may take to start
_LINES = 50  # of what a reader's libraries print, which are kept
_LONGEST = 1000  # bytes of one of them

log = logging.getLogger(__name__)


class Job(Protocol):
    """A job for a reader process."""

    def messages(self, scratch: Path) -> Any:
        """Yield what the other side is to get; remote files may be copied into the folder `scratch`."""
        ...


class ReaderProcess:
    """A process that runs `ipcv.readers.process` and has imported `modules`.

    A plain subprocess rather than one of `multiprocessing`: that would import the user's script a second time, and
    refuse to start under a daemonic process. What its libraries print is logged on the level of debugging.
    """

    def __init__(self, scratch: Path, modules: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as unless_started:
            unless_started.callback(ours.close)
            number = _above_standard_streams(theirs)
            unless_started.callback(os.close, number)
            self._process = subprocess.Popen(  # noqa: S603
                # -P: no module of the current folder gets in the way of the library's
                [sys.executable, "-P", "-m", "ipcv.readers.process", str(number), str(scratch), *modules],
                # imports whatever this process would, and computes nothing for which torch's threads are good
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,  # never written to: its end tells that this process is gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[number],
                process_group=0,  # Ctrl-C is for this process alone
            )
            unless_started.pop_all()
            os.close(number)
        self._socket, self._channel = ours, Channel(ours)
        self._is_ready = False
        self._printed: deque[str] = deque(maxlen=_LINES)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def begin(self, job: Job, name: str, memory: int, left: float | None = None) -> None:
        """Hand over a job, which may take `memory` bytes, and wait until it is begun. Errors as of `receive`."""
        self._memory = memory
        self.wait_until_ready()
        try:
            self._channel.send((job, memory, _current_folder()))
        except OSError as error:
            raise self._crash(name) from error
        self._expect("begun", name, left)

    def wait_until_ready(self) -> None:
        """Wait until it has started. Errors as of `receive`."""
        if not self._is_ready:
            self._expect("ready", "a reader process", START)
            self._is_ready = True

    def receive(self, name: str, left: float | None = None, allowed: float | None = None) -> Any:
        """The next message of the process, which reads `name` and has `left` of the `allowed` seconds for it.

        Raises `ReadTimeoutError` when they are over, `ReaderCrashError` if the process ends or what it sends is no
        message, and `MemoryExhaustedError` if it needs more memory than it may take.
        """
        try:
            return self._channel.receive(left)
        except TimeoutError as error:
            raise ReadTimeoutError(f"{name}: reading took more than {allowed:g} s and was ended") from error
        except GarbledError as error:
            self.kill()
            raise ReaderCrashError(
                f"{name}: the process that read it sent no message ({error}) and was ended"
            ) from error
        except (EOFError, OSError) as error:
            raise self._crash(name) from error

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and close all that leads to it."""
        self.kill()
        self._process.wait()
        self._channel.close()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _expect(self, kind: str, name: str, left: float | None) -> None:
        message = self.receive(name, left, left)
        if message != (kind,):
            self.kill()
            raise ReaderCrashError(f"{name}: the process that read it did not answer as it should and was ended")

    def _listen(self, pipe: IO[bytes]) -> None:
        """Take what the process prints: a full pipe would stop it."""
        for line in iter(lambda: pipe.readline(_LONGEST), b""):
            text = shown(line.decode(errors="replace").rstrip())
            self._printed.append(text)
            log.debug("a reader process printed: %s", text)

    def _crash(self, name: str) -> ReaderCrashError | MemoryExhaustedError:
        code = self._process.wait()
        if code == EXIT_MEMORY:
            return MemoryExhaustedError(
                f"{name}: reading it takes more than {self._memory / 2**30:.1f} GiB of memory, which is what a reader "
                "may have here: free memory, or make its pictures smaller first"
            )
        self._listener.join(1.0)
        reason = f" ({self._printed[-1]})" if code > 0 and self._printed else ""  # Python names the error last
        return ReaderCrashError(f"{name}: the process that read it ended with code {code}{reason}")


def _above_standard_streams(end: socket.socket) -> int:
    """A copy of `end`'s descriptor that is none of those to which libraries print, also where they are closed here."""
    return fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)


def failure(video: str, kind: ErrorKind, name: str, message: str) -> Exception:
    """The error of a reader process, which sends its `name` and not its class: that may not exist here."""
    if kind == "memory":
        return MemoryExhaustedError(f"out of memory while reading {video}: lower max_pixels")
    if kind == "video":
        return VideoError(message)
    return ValueError(message) if kind == "settings" else RuntimeError(f"{name}: {message}")


def _current_folder() -> str | None:
    """The folder from which relative paths go; None if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - the same, as text
    except FileNotFoundError:
        return None
