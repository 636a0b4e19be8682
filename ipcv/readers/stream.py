"""A video that a reader process reads: its messages, turned back into clips."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ipcv.errors import ReaderCrashError
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameSize, FrameStream, VideoFacts
from ipcv.readers.child import failure
from ipcv.readers.job import ClipRead, ReadJob
from ipcv.text import shown

AHEAD = 4  # frame batches of one video that wait to be encoded


class Reading:
    """The messages about one video. Iterate for its clips, and use up each before the next."""

    def __init__(self, job: ReadJob) -> None:
        self.job = job
        self._messages: queue.Queue[Any] = queue.Queue(maxsize=AHEAD)
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[ClipRead]:
        """Raises `VideoError` if the video cannot be read, and any other error of the reader as `RuntimeError`."""
        while (message := self.take())[0] != "end":
            if message[0] != "clip":
                continue  # the rest of a clip that was not used up
            _, span, facts, times, size, warnings, share = message
            source = _Piped(self, facts, times, size, list(warnings))
            with Clip(source, times, size, self.job.frame_batch) as clip:
                yield span, clip, share

    def close(self) -> None:
        """Take no further message, and let the reader go on to its next video."""
        self._closed.set()

    def take(self) -> Any:
        """Wait for the next message. Raises the error that it brings, and `ReaderCrashError` after `close`."""
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
            raise failure(shown(self.job.video), *message[1:])
        return message

    def put(self, message: Any) -> None:
        """Add a message, once there is room for it; after `close` it is dropped."""
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
