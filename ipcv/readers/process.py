"""The program of a reader process: opens videos for the process that started it and sends it their frames.

`python -m ipcv.readers.process SOCKET SCRATCH` takes pickled `ReadJob`s from the socket whose file descriptor is
SOCKET, answers there with pickled messages, and copies remote files into the folder SCRATCH. The first message is
`("ready",)`. For each job it sends `("clip", span, facts, times, size, warnings, share)`, `("frames", array)` and
`("closed", facts, warnings)` for each clip, and in the end `("end",)` or `("failed", kind, class, message)`.
"""

import os
import pickle
import shutil
import socket
import sys
import threading
from io import BufferedRWPair
from pathlib import Path
from typing import Any

from ipcv.errors import error_kind, first_line
from ipcv.readers.job import ReadJob

Message = tuple[Any, ...]


def main() -> None:
    """Serve until the process that started this one closes the socket, or is gone."""
    scratch = Path(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
    import torch  # noqa: F401 - some builds crash when decord is imported before torch
    import decord  # noqa: F401 # isort: skip - so that no video's time is spent on it

    stream = socket.socket(fileno=int(sys.argv[1])).makefile("rwb")
    try:
        send(stream, ("ready",))
        while True:
            serve(pickle.load(stream), scratch, stream)  # noqa: S301 - from the process that started this one
    except (BrokenPipeError, ConnectionResetError, EOFError):  # nobody is left to read for
        _leave(scratch)


def _end_with_parent(scratch: Path) -> None:
    """Leave, even in the middle of a decoder, when stdin ends: nobody writes to it, so the parent is gone."""
    os.read(0, 1)
    _leave(scratch)


def _leave(scratch: Path) -> None:
    """End the process at once, and remove remote files that were copied: the parent could not, if it was killed."""
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def serve(job: ReadJob, scratch: Path, stream: BufferedRWPair) -> None:
    """Read one video."""
    try:
        for span, clip, share in job.clips(scratch):
            send(stream, ("clip", span, clip.facts, clip.times, clip.size, clip.warnings, share))
            for frames in clip:
                send(stream, ("frames", frames))
            send(stream, ("closed", clip.facts, clip.warnings))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # belongs to the video, and the other side reports it
        send(stream, ("failed", error_kind(error), type(error).__name__, str(error) or first_line(error)))
    else:
        send(stream, ("end",))


def send(stream: BufferedRWPair, message: object) -> None:
    """Write a pickled object, at once."""
    pickle.dump(message, stream, protocol=5)
    stream.flush()


if __name__ == "__main__":
    main()
