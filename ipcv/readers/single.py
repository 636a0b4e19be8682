"""Files of a question, read by a process that can be killed: a damaged or endless file takes nothing else along."""

import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ipcv.errors import ReaderCrashError
from ipcv.media.clip import Clip
from ipcv.media.clip_frames import FrameSource
from ipcv.media.frames import FrameStream
from ipcv.media.remote.access import Access, is_remote
from ipcv.media.remote.copies import at_hand
from ipcv.media.sources import FoundFile, find
from ipcv.readers.child import TRIES, Job, ReaderProcess, failure
from ipcv.readers.memory import reader_memory
from ipcv.readers.scratch import scratch_folder
from ipcv.text import shown


class FileReader:
    """Reads files in a process of its own, one at a time.

    `access` says how far remote files may be followed. The process starts with the first file, or with `start`, and
    stays until `close` or until nobody holds this object.
    It knows nothing of models, so that it starts in a fraction of a second.
    """

    def __init__(self, access: Access | None = None) -> None:
        self.access = access or Access()
        self._process: ReaderProcess | None = None
        self._is_busy = False
        self._is_interrupted = False

    def start(self) -> ReaderProcess:
        """Start the process, without waiting until it has started."""
        with ExitStack() as stack:
            self._process = process = ReaderProcess(stack.enter_context(scratch_folder()), [__name__])
            stack.callback(process.close)
            self._end = weakref.finalize(self, stack.pop_all().close)
        return process

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process = None
            self._end()

    def find(self, video: str | Path) -> FoundFile:
        """As `ipcv.media.sources.find`, also for a URL. Raises `VideoError` also if the process ends over the file.

        A remote file is copied; the copy is removed when nobody holds the result any more.
        """
        url = str(video)
        if not is_remote(url):
            return self._found(video)
        with ExitStack() as stack:
            found = self._found(stack.enter_context(at_hand(url, self.access, scratch_folder)))
            found = replace(found, facts=replace(found.facts, path=url))
            weakref.finalize(found, stack.pop_all().close)
        return found

    def _found(self, path: str | Path) -> FoundFile:
        with closing(self._messages(_Find(path), shown(str(path)))) as messages:
            (found,) = [found for _, found in messages]
        return found

    def through(self, clip: Clip) -> Clip:
        """`clip` of a file, with its frames read by the process. Each pass reads the file again."""
        return clip.through(lambda source: _Distant(self, source, len(clip.times)), interrupt=self._interrupt)

    def frames(self, source: FrameSource) -> Generator[tuple[Any, ...], None, None]:
        """The frames of a source, each as `("frame", array)`, and its facts and warnings after that."""
        return self._messages(_Read(source), shown(source.facts.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _messages(self, job: Job, name: str) -> Generator[tuple[Any, ...], None, None]:
        """Yield the process's messages about a job. If they are not wanted to their end, the process is ended."""
        if self._is_busy:
            self.close()  # messages of a job that was given up may be on their way
        self._is_busy, self._is_interrupted, is_done = True, False, False
        process = self._begun(job, name)
        try:
            while (message := process.receive(name))[0] not in ("end", "failed"):
                yield message
            is_done, self._is_busy = True, False
        finally:
            if not is_done:
                process.kill()
        if message[0] == "failed":
            raise failure(name, *message[1:])

    def _begun(self, job: Job, name: str) -> ReaderProcess:
        """The process, which has begun the job; another one where it ended earlier, which is not the file's fault."""
        for tries_left in reversed(range(TRIES)):
            try:
                if self._process and not self._process.is_alive():
                    self.close()
                process = self._process or self.start()
                process.begin(job, name, reader_memory(1))
                break
            except ReaderCrashError:
                self.close()
                if not tries_left or self._is_interrupted:
                    raise
        return process

    def _interrupt(self) -> None:
        """End the process if it is reading; also from another thread than the one that waits for it."""
        if self._is_busy and (process := self._process):
            self._is_interrupted = True
            process.kill()


@dataclass(frozen=True)
class _Find:
    """The job to find a file."""

    path: str | Path

    def messages(self, _: Path) -> Iterator[tuple[Any, ...]]:
        yield "found", find(self.path)


@dataclass(frozen=True)
class _Read:
    """The job to read frames."""

    source: FrameSource

    def messages(self, _: Path) -> Iterator[tuple[Any, ...]]:
        with closing(self.source.frames()) as frames:
            for frame in frames:
                yield "frame", np.ascontiguousarray(frame)
        yield "closed", self.source.facts, self.source.warnings


class _Distant:
    """The `count` frames of a source, which a reader process reads."""

    def __init__(self, reader: FileReader, source: FrameSource, count: int) -> None:
        self._reader, self._source, self._count = reader, source, count
        self.facts, self.warnings = source.facts, source.warnings

    def frames(self) -> FrameStream:
        with closing(self._reader.frames(self._source)) as messages:
            for number in range(1, self._count + 1):
                _, frame = next(messages)
                if number == self._count:
                    ((_, self.facts, self.warnings),) = messages
                yield frame
