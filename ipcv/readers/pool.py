"""Videos read ahead by processes that can be killed: in order, a bounded number of them at a time."""

import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ipcv.errors import ReaderCrashError, ReadTimeoutError
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.readers.stream import Reading
from ipcv.text import shown

START = 120.0  # seconds a reader process may take to start
# the package without what its __init__ imports: a process that only reads needs no transformers, and starts much sooner
_BOOT = """import sys, types
package = sys.modules["ipcv"] = types.ModuleType("ipcv")
package.__path__ = [sys.argv.pop(1)]
from ipcv.reader_process import main
main()"""


class Readers:
    """`count` reader processes, for the length of a `with`; with 0, videos are read here, one at a time.

    `timeout` is the time, in seconds, that reading one video may take, waiting for the encoder not counted; then its
    process is killed and another one started.
    """

    def __init__(self, count: int, prefetch: int, timeout: float | None = None) -> None:
        if count < 0 or prefetch < 1:
            raise ValueError(f"readers={count} must be 0 or more, and prefetch={prefetch} at least 1")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout={timeout:g} must be more than 0 seconds")
        if timeout is not None and not count:
            raise ValueError("a timeout needs reader processes that can be killed: use 1 reader or more")
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

    def read(self, jobs: Iterable[ReadJob | None]) -> Iterator[Iterable[ClipRead] | None]:
        """What each job reads, in order; at most `prefetch` of them have begun and are not yet used up.

        A place that holds no job stays empty.
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
        finally:  # what was read ahead and is not wanted any more must not hold its reader up
            for reading in waiting:
                if reading:
                    reading.close()

    def _first(self, waiting: "deque[Reading | None]") -> Iterator[Reading | None]:
        reading = waiting.popleft()
        if reading is None:
            yield None
            return
        with closing(reading):
            yield reading


class _Worker(threading.Thread):
    """A thread that looks after one reader process."""

    def __init__(self, jobs: "queue.SimpleQueue[Reading | None]", scratch: Path, timeout: float | None) -> None:
        super().__init__(name="ipcv-reader-process", daemon=True)
        self._jobs, self._scratch, self._timeout = jobs, scratch, timeout
        self._process: subprocess.Popen[bytes] | None = None
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
        with suppress(ReaderCrashError, ReadTimeoutError):  # the first video will say so
            self._start()
        while not self._stopped and (reading := self._jobs.get()) is not None:
            with self._lock:
                self._reading = reading
                if self._stopped:
                    reading.close()
            try:
                self._serve(reading)
            except Exception as error:  # it belongs to whoever waits for this video
                self._end()
                reading.put(error)
        self._end()

    def _serve(self, reading: Reading) -> None:
        if self._process and self._process.poll() is not None:
            self._end()  # it ended between two videos
        process = self._process or self._start()
        if process.stdin is None:
            raise RuntimeError("the reader process has no stdin")
        left = self._timeout
        pickle.dump(reading.job, process.stdin, protocol=5)
        process.stdin.flush()
        while True:
            started = time.monotonic()
            message = self._receive(process, left, reading.job)
            if left is not None:
                left -= time.monotonic() - started
            reading.put(message)
            if message[0] in ("end", "failed"):
                return

    def _receive(self, process: "subprocess.Popen[bytes]", seconds: float | None, job: ReadJob | None) -> Any:
        """The next message. Raises `ReadTimeoutError` after so many seconds, `ReaderCrashError` if the process ends."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = None if seconds is None else threading.Timer(max(seconds, 0.0), kill)
        if timer:
            timer.daemon = True
            timer.start()
        try:
            if process.stdout is None:
                raise RuntimeError("the reader process has no stdout")
            return pickle.load(process.stdout)  # noqa: S301 - from our own process
        except (EOFError, pickle.UnpicklingError) as error:
            name = shown(job.video) if job else "a reader process"
            if late.is_set():
                spent = self._timeout if job else START
                raise ReadTimeoutError(f"{name}: reading took more than {spent:g} s and was ended") from error
            code = process.wait()
            raise ReaderCrashError(f"{name}: the process that read it ended with code {code}") from error
        finally:
            if timer:
                timer.cancel()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", _BOOT, str(Path(__file__).parent), str(self._scratch)]
        with self._lock:
            if self._stopped:
                raise ReaderCrashError("the readers are being closed")
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            self._process = process
        self._receive(process, START, None)
        return process

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with suppress(OSError):
                        pipe.close()
