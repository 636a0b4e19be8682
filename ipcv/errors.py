"""What can go wrong in the user's world. Each message says what happened, why, and what would work."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

ErrorKind = Literal["video", "model", "memory", "settings", "other"]

# how torch, its allocators and the system put it where there is no exception class for it
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class IPCVError(Exception):
    """Base of every error that `ipcv` raises on purpose, apart from `ValueError` for bad settings."""

    kind: ClassVar[ErrorKind] = "other"


class VideoError(IPCVError):
    """The video cannot be read."""

    kind = "video"


class ReadTimeoutError(VideoError):
    """Reading the video took longer than it was allowed to."""


class ReaderCrashError(VideoError):
    """The process that read the video ended before it was done."""


class ModelError(IPCVError):
    """The model is not available here, or is of a family that is not supported."""

    kind = "model"


class MemoryExhaustedError(IPCVError):
    """The device or the host ran out of memory."""

    kind = "memory"


class ClusterError(IPCVError):
    """The cluster cannot be had, or its workers do not live."""


class WorkerCrashError(IPCVError):
    """The worker that a video was given to ended, again and again."""


class OutputBusyError(IPCVError):
    """Another run is writing the same output."""


class SidecarError(IPCVError):
    """A file is in the way that no caption of ours has written."""


class TooManyFailuresError(IPCVError):
    """More videos failed than were allowed to."""


def error_kind(error: Exception) -> ErrorKind:
    """What `error` is about, which exit codes go by."""
    if isinstance(error, IPCVError):
        return error.kind
    if isinstance(error, MemoryError):
        return "memory"
    # subclasses of ValueError, such as decoding errors, are not about settings
    return "settings" if type(error) is ValueError else "other"


@contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Whatever says that memory ran out becomes `MemoryExhaustedError(message)`; every other error passes."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not is_about_memory(error):
            raise
        raise MemoryExhaustedError(message) from error


def first_line(error: Exception) -> str:
    """The first line of what `error` says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_about_memory(error: Exception) -> bool:
    """Whether `error` says that memory ran out, in whichever of its many ways."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | MemoryExhaustedError):
        return True
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    # oneDNN says no more; where it cannot compute something it misses a "primitive descriptor"
    return any(sign in str(error) for sign in _NO_MEMORY) or str(error) == "could not create a primitive"


OUT_OF_MEMORY = 'out of memory while answering: lower max_frames, max_pixels or frame_batch, or try `quant="4bit"`'
