"""A thread that reads frames in batches, at most one batch ahead of their use."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice, takewhile

import numpy as np

from ipcv.media.frames import FrameArray, FrameStream

_PATIENCE = 5.0  # seconds that closing waits for a decoder; a stuck one is left behind in its daemon thread


class ReadAhead:
    """One pass over a stream of frames, read by a thread of its own."""

    def __init__(
        self,
        frames: Callable[[], FrameStream],
        count: int,
        batch: int,
        spent: list[float],
        interrupt: Callable[[], object] = lambda: None,
    ) -> None:
        self._interrupt = interrupt
        self._sizes = [min(batch, count - first) for first in range(0, count, batch)]
        self._spent = spent
        self._done: queue.SimpleQueue[FrameArray | BaseException] = queue.SimpleQueue()
        self._permit = threading.Semaphore(1)  # to read one batch that nobody has asked for yet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(frames,), name="ipcv-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[FrameArray]:
        for _ in self._sizes:
            batch = self._done.get()
            if isinstance(batch, BaseException):
                raise batch
            self._permit.release()
            yield batch

    def close(self) -> None:
        """End the thread and close the source. Anyone who waits for a batch gets a `RuntimeError`."""
        self._stop.set()
        self._permit.release()
        self._interrupt()
        self._thread.join(_PATIENCE)

    def _run(self, frames: Callable[[], FrameStream]) -> None:
        try:
            for batch in self._batches(frames()):
                self._done.put(batch)
        except BaseException as error:  # whatever it is, it belongs to the one who waits for the batch
            self._done.put(error)

    def _batches(self, frames: FrameStream) -> Iterator[FrameArray]:
        """Yield stacked batches. The source is closed before the last one is handed over."""
        last = len(self._sizes) - 1
        with closing(frames):
            for index, size in enumerate(self._sizes):
                self._permit.acquire()
                started = time.perf_counter()
                batch = list(takewhile(lambda _: not self._stop.is_set(), islice(frames, size)))
                if self._stop.is_set():
                    raise RuntimeError("the clip was closed while it was being read")
                if index == last:
                    frames.close()
                self._spent.append(time.perf_counter() - started)
                yield np.stack(batch)
