"""Reader processes: they read videos ahead, in order and a bounded number at a time, and can be killed."""

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

from ipcv.errors import ReaderCrashError
from ipcv.readers.child import TRIES, ReaderProcess
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.readers.memory import reader_memory
from ipcv.readers.scratch import scratch_folder
from ipcv.readers.stream import Reading
from ipcv.text import shown

_MODULES = ("torch", "ipcv.readers.job")


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
        with ExitStack() as stack:
            if self._count:
                scratch = stack.enter_context(scratch_folder())
                self._workers = [_Worker(self._jobs, scratch, self._timeout, self._count) for _ in range(self._count)]
                for worker in self._workers:
                    worker.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()
        self._stack.close()

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

    def __init__(
        self, jobs: "queue.SimpleQueue[Reading | None]", scratch: Path, timeout: float | None, count: int
    ) -> None:
        super().__init__(name="ipcv-reader-process", daemon=True)
        self._jobs, self._scratch, self._timeout, self._count = jobs, scratch, timeout, count
        self._process: ReaderProcess | None = None
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
            self._start().wait_until_ready()
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
        name, left = shown(reading.job.video), self._timeout
        process = self._begin(reading.job, name)
        while True:
            started = time.monotonic()
            message = process.receive(name, left, self._timeout)
            if left is not None:
                left -= time.monotonic() - started
            reading.put(message)
            if message[0] in ("end", "failed"):
                return

    def _begin(self, job: ReadJob, name: str) -> ReaderProcess:
        """Let a process begin a job: another one where the first ended earlier, which is not the video's fault."""
        if self._process and not self._process.is_alive():
            self._end()  # it ended between two videos
        for tries_left in reversed(range(TRIES)):
            try:
                process = self._process or self._start()
                process.begin(job, name, reader_memory(self._count), self._timeout)
                break
            except ReaderCrashError:
                if not tries_left or self._stopped:
                    raise
                self._end()
        return process

    def _start(self) -> ReaderProcess:
        with self._lock:
            if self._stopped:
                raise ReaderCrashError("the readers are being closed")
            process = self._process = ReaderProcess(self._scratch, _MODULES)
        return process

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.close()
