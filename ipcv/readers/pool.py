"""Reader processes: they read videos ahead, in order and a bounded number at a time, and can be killed."""

import os
import pickle
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ipcv.errors import ReaderCrashError, ReadTimeoutError
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.readers.process import send
from ipcv.readers.stream import Reading
from ipcv.text import shown

START = 120.0  # seconds a reader process may take to start


class Readers:
    """`count` reader processes, for the length of a `with`; with 0, this process reads the videos, one at a time.

    Reading one video may take `timeout` seconds, the wait for the encoder not counted. Then its process is killed and
    another one started.
    """

    def __init__(self, count: int, prefetch: int, timeout: float | None = None) -> None:
        check_readers(count, prefetch, timeout)
        self._count, self._prefetch, self._timeout = count, prefetch, timeout
        self._jobs: queue.SimpleQueue[Reading | None] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="ipcv-readers-", ignore_cleanup_errors=True)
        scratch = Path(self._scratch.name)
        self._workers = [_Worker(self._jobs, scratch, self._timeout) for _ in range(self._count)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()
        self._scratch.cleanup()

    def read(self, jobs: Iterable[ReadJob | None]) -> Generator[Iterable[ClipRead] | None, None, None]:
        """Yield the clips of each job, in the order of the jobs, and `None` for each `None`.

        At most `prefetch` videos have been begun and are not yet used up.
        """
        waiting: deque[Reading | None] = deque()
        ahead = self._prefetch if self._count else 0
        try:
            for job in jobs:
                if job is None:
                    waiting.append(None)
                elif self._count:
                    waiting.append(Reading(job))
                    self._jobs.put(waiting[-1])
                else:
                    yield job.clips()
                    continue
                while len(waiting) > ahead:
                    yield from self._first(waiting)
            while waiting:
                yield from self._first(waiting)
        finally:  # readers must not wait for somebody to take what is no longer wanted
            for reading in waiting:
                if reading:
                    reading.close()

    def _first(self, waiting: deque[Reading | None]) -> Iterator[Reading | None]:
        reading = waiting.popleft()
        if reading is None:
            yield None
            return
        with closing(reading):
            yield reading


def check_readers(count: int, prefetch: int, timeout: float | None) -> None:
    """Raise `ValueError` for arguments of `Readers` that make no sense."""
    if count < 0 or prefetch < 1:
        raise ValueError(f"readers={count} must be 0 or more, and prefetch={prefetch} at least 1")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout:g} must be more than 0 seconds")
    if timeout is not None and not count:
        raise ValueError("a timeout needs reader processes that can be killed: use 1 reader or more")


class _Worker(threading.Thread):
    """A thread that hands one video after the other to a reader process of its own, and restarts it when it ends."""

    def __init__(self, jobs: "queue.SimpleQueue[Reading | None]", scratch: Path, timeout: float | None) -> None:
        super().__init__(name="ipcv-reader-process", daemon=True)
        self._jobs, self._scratch, self._timeout = jobs, scratch, timeout
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the process and, soon, the thread."""
        with self._lock:
            self._stopped = True
            if self._reading:
                self._reading.close()
            if self._process:
                self._process.kill()

    def run(self) -> None:
        try:
            self._start()
        except Exception:  # also where the system refuses a process: the first video tries again, and says so
            self._end()
        while not self._stopped and (reading := self._jobs.get()) is not None:
            with self._lock:
                self._reading = reading
                if self._stopped:
                    reading.close()
            try:
                self._serve(reading)
            except Exception as error:  # belongs to whoever waits for this video
                self._end()
                reading.put(error)
        self._end()

    def _serve(self, reading: Reading) -> None:
        if self._process and not self._process.is_alive():
            self._end()  # it ended between two videos
        process = self._process or self._start()
        name, left = shown(reading.job.video), self._timeout
        process.send(reading.job, name)
        while True:
            started = time.monotonic()
            message = process.receive(name, left, self._timeout)
            if left is not None:
                left -= time.monotonic() - started
            reading.put(message)
            if message[0] in ("end", "failed"):
                return

    def _start(self) -> "_Process":
        with self._lock:
            if self._stopped:
                raise ReaderCrashError("the readers are being closed")
            process = self._process = _Process(self._scratch)
        process.receive("a reader process", START, START)
        return process

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.close()


class _Process:
    """A process that runs `ipcv.readers.process`.

    A plain subprocess rather than one of `multiprocessing`: that would import the user's script a second time, and
    refuse to start under a daemonic process.
    """

    def __init__(self, scratch: Path) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs, ExitStack() as unless_started:
            unless_started.callback(self._socket.close)
            number = theirs.fileno()
            self._process = subprocess.Popen(  # noqa: S603
                # -P: no module of the current folder gets in the way of the library's
                [sys.executable, "-P", "-m", "ipcv.readers.process", str(number), str(scratch)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # imports whatever this process would
                stdin=subprocess.PIPE,  # never written to: its end tells that this process is gone
                stdout=2,  # whatever a library prints must not get into the output
                pass_fds=[number],
                process_group=0,  # Ctrl-C is for this process alone
            )
            unless_started.pop_all()
        self._stream = self._socket.makefile("rwb")

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def send(self, job: ReadJob, name: str) -> None:
        """Hand over a job. Raises `ReaderCrashError` if the process has ended; `name` says over what."""
        self._socket.settimeout(None)
        try:
            send(self._stream, job)
        except OSError as error:
            raise self._crash(name) from error

    def receive(self, name: str, left: float | None, allowed: float | None) -> Any:
        """The next message of the process, which reads `name` and has `left` of the `allowed` seconds for it.

        Raises `ReadTimeoutError` when they are over, and `ReaderCrashError` if the process ends.
        """
        self._socket.settimeout(None if left is None else max(left, 0.01))
        try:
            return pickle.load(self._stream)  # noqa: S301 - from our own process
        except TimeoutError as error:
            raise ReadTimeoutError(f"{name}: reading took more than {allowed:g} s and was ended") from error
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._crash(name) from error

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and close its socket."""
        self.kill()
        self._process.wait()
        with suppress(OSError):  # a job that could not be sent is still in its buffer
            self._stream.close()
        self._socket.close()
        if self._process.stdin:
            self._process.stdin.close()

    def _crash(self, name: str) -> ReaderCrashError:
        return ReaderCrashError(f"{name}: the process that read it ended with code {self._process.wait()}")
