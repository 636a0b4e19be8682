"""The program of a reader process: does jobs for the process that started it, and sends it what it reads.

`python -m ipcv.readers.process SOCKET SCRATCH [MODULE ...]` imports the modules, takes jobs from the socket whose file
descriptor is SOCKET, and answers there. Remote files are copied into the folder SCRATCH. The first message is
`("ready",)`. Each job comes with the bytes of memory that it may take, and the folder from which relative paths go.
It is answered by `("begun",)`, by the messages of the job, and in the end by `("end",)` or
`("failed", kind, class, message)`.
"""

import importlib
import os
import shutil
import socket
import sys
import threading
from pathlib import Path

from ipcv.errors import error_kind, first_line
from ipcv.readers.channel import Channel, GarbledError
from ipcv.readers.memory import watch_memory


def main() -> None:
    """Serve until the process that started this one closes the socket, or is gone."""
    number, scratch, *modules = sys.argv[1:]
    threading.Thread(target=_end_with_parent, args=(Path(scratch),), daemon=True).start()
    try:
        for module in modules:
            importlib.import_module(module)  # so that no video's time is spent on it
        channel = Channel(socket.socket(fileno=int(number)))
        channel.send(("ready",))
        while True:
            _serve(channel, Path(scratch))
    except (BrokenPipeError, ConnectionResetError, EOFError):  # nobody is left to read for
        _leave(Path(scratch))


def _end_with_parent(scratch: Path) -> None:
    """Leave, even in the middle of a decoder, when stdin ends: nobody writes to it, so the parent is gone."""
    os.read(0, 1)
    _leave(scratch)


def _leave(scratch: Path) -> None:
    """End the process at once, and remove remote files that were copied: the parent could not, if it was killed."""
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _serve(channel: Channel, scratch: Path) -> None:
    """Do one job."""
    try:
        job, memory, folder = channel.receive()
        channel.send(("begun",))
        if folder:
            os.chdir(folder)
        with watch_memory(memory):
            for message in job.messages(scratch):
                channel.send(message)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        raise
    except GarbledError as error:  # the job's class cannot be imported here
        channel.send(("failed", "other", "ImportError", str(error)))
    except Exception as error:  # belongs to the video, and the other side reports it
        channel.send(("failed", error_kind(error), type(error).__name__, str(error) or first_line(error)))
    else:
        channel.send(("end",))


if __name__ == "__main__":
    main()
