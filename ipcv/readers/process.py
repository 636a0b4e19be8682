"""A process that reads videos for another one, which may kill it; `ipcv.readers.pool` starts it.

Takes pickled `ReadJob`s on stdin; answers on stdout with pickled messages: `("ready",)` once, then for each job
`("clip", span, facts, times, size, warnings)`, `("frames", array)` and `("closed", facts, warnings)` for each of its
clips, and `("end",)` or `("failed", class, message)`. Ends with its stdin, whatever it is doing.
"""

import os
import pickle
import queue
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ipcv.errors import first_line
from ipcv.readers.job import ReadJob

Message = tuple[Any, ...]


def main() -> None:
    """Serve until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that started this one
    output = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    import torch  # noqa: F401 - some builds crash when decord is imported before torch
    import decord  # noqa: F401 # isort: skip - so that no video's time is spent on it

    jobs: queue.SimpleQueue[ReadJob] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    _send(output, ("ready",))
    try:
        while True:
            serve(jobs.get(), Path(sys.argv[1]), output)
    except BrokenPipeError:  # nobody is left to read for
        os._exit(0)


def _listen(jobs: "queue.SimpleQueue[ReadJob]") -> None:
    """Pass jobs on; at the end of stdin, end the process, even in the middle of a decoder."""
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - from the process that started this one
    os._exit(0)


def serve(job: ReadJob, scratch: Path, output: BinaryIO) -> None:
    """Read one video."""
    try:
        for span, clip, share in job.clips(scratch):
            _send(output, ("clip", span, clip.facts, clip.times, clip.size, clip.warnings, share))
            for frames in clip:
                _send(output, ("frames", frames))
            _send(output, ("closed", clip.facts, clip.warnings))
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever it is, it belongs to the video, and the other side reports it
        _send(output, ("failed", type(error).__name__, str(error) or first_line(error)))
    else:
        _send(output, ("end",))


def _send(output: BinaryIO, message: Message) -> None:
    pickle.dump(message, output, protocol=5)
    output.flush()
