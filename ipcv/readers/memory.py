"""How much memory reading may take: bounded by a thread that ends a reader process before the machine runs short.

A limit of the system would not do: one on addresses counts what libraries only reserve, and where one on data is
reached, a decoder takes the missing memory for a damaged picture, or aborts without saying why.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ipcv.limits.free_memory import free_host_memory

EXIT_MEMORY = 86  # exit code of a reader process that needed more
MOST = 2 << 30  # bytes: pictures of 8K in 10 bits take less
LEAST = 256 << 20  # bytes, however little is free
_PAUSE = 0.02  # seconds between two looks


def reader_memory(readers: int) -> int:
    """Bytes that each of so many reader processes may take for a video: a share of what is free, 2 GiB at most."""
    free = free_host_memory()
    return max(LEAST, min(MOST, free[0] // (readers + 1))) if free else MOST


@contextmanager
def watch_memory(most: int) -> Iterator[None]:
    """End this process with `EXIT_MEMORY` where it takes `most` more bytes. Needs /proc, else nothing is done."""
    done = threading.Event()
    before = _taken()
    if before is None:
        yield
        return
    threading.Thread(target=_watch, args=(done, before + most), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(done: threading.Event, most: int) -> None:
    while not done.wait(_PAUSE):
        if (_taken() or 0) > most:
            os._exit(EXIT_MEMORY)


def _taken() -> int | None:
    """Bytes of memory that this process has to itself."""
    with suppress(OSError, ValueError):
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return None
