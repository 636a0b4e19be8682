"""Errors that the user's files, model or machine cause. Messages say what happened, why, and what would work."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

ErrorKind = Literal["video", "model", "memory", "settings", "other"]

# messages of torch, its allocators and the system that have no exception class of their own
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class IPCVError(Exception):
    """Base of every error that `ipcv` raises on purpose, apart from `ValueError` for bad settings."""

    kind: ClassVar[ErrorKind] = "other"


class VideoError(IPCVError):
    """The video cannot be read."""

    kind = "video"


class ReadTimeoutError(VideoError):
    """Reading the video took longer than `timeout`, or its server was silent for too long."""


class ReaderCrashError(VideoError):
    """The reader process ended in the middle of the video."""


class ModelError(IPCVError):
    """The model is not available here, or is of a family that is not supported."""

    kind = "model"


class MemoryExhaustedError(IPCVError):
    """The device or the host ran out of memory."""

    kind = "memory"


class ClusterError(IPCVError):
    """The cluster cannot be reached or started, or its workers end too early."""


class WorkerCrashError(IPCVError):
    """The worker that captioned the video ended, on every try."""


class OutputBusyError(IPCVError):
    """Another run is writing the same output."""


class OutputLostError(IPCVError):
    """The output was deleted, replaced or cut by something else while the run wrote it, or nobody reads it any more."""


class SidecarError(IPCVError):
    """A side-car would replace a file that no run has written."""


class TooManyFailuresError(IPCVError):
    """More videos failed than were allowed to."""


def error_kind(error: Exception) -> ErrorKind:
    """The kind of an error of any class; exit codes go by it."""
    if isinstance(error, IPCVError):
        return error.kind
    if isinstance(error, MemoryError):
        return "memory"
    # subclasses of ValueError, such as decoding errors, are not about settings
    return "settings" if type(error) is ValueError else "other"


@contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Errors that say that memory ran out become `MemoryExhaustedError(message)`; others pass."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not is_about_memory(error):
            raise
        raise MemoryExhaustedError(message) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, and the next where it ends in a colon; or the name of its class."""
    first, *more = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {more[0].strip()}" if more and first.endswith(":") else first


def is_about_memory(error: Exception) -> bool:
    """Whether an error of any library says that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | MemoryExhaustedError):
        return True
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    # oneDNN's whole message; for an operation that it does not have it misses a "primitive descriptor"
    return any(sign in str(error) for sign in _NO_MEMORY) or str(error) == "could not create a primitive"


def is_about_space(error: OSError) -> bool:
    """Whether a file could not be written because the disk, the quota or the file is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


OUT_OF_MEMORY = 'out of memory while answering: lower max_frames, max_pixels or frame_batch, or try `quant="4bit"`'
