"""One video as it comes in from another process, message by message."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ipcv.errors import MemoryExhaustedError, ReaderCrashError, VideoError
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameSize, FrameStream, VideoFacts
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.text import shown

AHEAD = 4  # frame batches of one video that wait to be encoded


class Reading:
    """One video as it comes in: iterate for its clips, each to be used up before the next."""

    def __init__(self, job: ReadJob) -> None:
        self.job = job
        self._messages: queue.Queue[Any] = queue.Queue(maxsize=AHEAD)
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[ClipRead]:
        """Raises `VideoError` where the video cannot be read, and whatever else went wrong in the reader."""
        while (message := self.take())[0] != "end":
            if message[0] != "clip":
                continue  # what is left of a clip that was not used up
            _, span, facts, times, size, warnings, share = message
            source = _Piped(self, facts, times, size, list(warnings))
            with Clip(source, times, size, self.job.frame_batch) as clip:
                yield span, clip, share

    def close(self) -> None:
        """Nothing more is wanted."""
        self._closed.set()

    def take(self) -> Any:
        """The next message; errors as above."""
        while True:
            with suppress(queue.Empty):
                message = self._messages.get(timeout=0.5)
                break
            if self._closed.is_set():
                raise ReaderCrashError(f"{shown(self.job.video)}: reading was stopped")
        if isinstance(message, Exception):
            try:
                raise message
            finally:
                del message  # its traceback holds this frame: a cycle would keep the whole stream of readings alive
        if message[0] == "failed":
            raise _error(self.job, message[1], message[2])
        return message

    def put(self, message: Any) -> None:
        """Add a message; waits until there is room, or nobody wants it any more."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._messages.put(message, timeout=0.1)
                return


class _Piped:
    """The frames of one clip as a reader sends them."""

    def __init__(
        self, reading: Reading, facts: VideoFacts, times: tuple[float, ...], size: FrameSize, warnings: list[str]
    ) -> None:
        self.facts, self.warnings = facts, warnings
        self._reading, self._count, self._size = reading, len(times), size

    def frames(self) -> FrameStream:
        done = 0
        while done < self._count:
            _, batch = self._reading.take()
            done += len(batch)
            if done == self._count:
                _, self.facts, self.warnings = self._reading.take()
            yield from batch


def _error(job: ReadJob, kind: str, message: str) -> Exception:
    if kind == "MemoryError":
        return MemoryExhaustedError(f"out of memory while reading {shown(job.video)}: lower --max-pixels")
    if kind == "VideoError":
        return VideoError(message)
    return ValueError(message) if kind == "ValueError" else RuntimeError(f"{kind}: {message}")
