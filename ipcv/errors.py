"""What can go wrong in the user's world. Each message says what happened, why, and what would work."""


class IPCVError(Exception):
    """Base of every error that `ipcv` raises on purpose, apart from `ValueError` for bad settings."""


class VideoError(IPCVError):
    """The video cannot be read."""


class ModelError(IPCVError):
    """The model is not available here, or is of a family that is not supported."""


class MemoryExhaustedError(IPCVError):
    """The device or the host ran out of memory."""
