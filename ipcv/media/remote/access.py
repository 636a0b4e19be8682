"""Which names of videos are URLs, and how far those are followed."""

from dataclasses import dataclass

MAX_DOWNLOAD = 4 << 30  # bytes


@dataclass(frozen=True, kw_only=True)
class Access:
    """How far a remote video may be followed. Raises `ValueError` for bad values."""

    max_download: int = MAX_DOWNLOAD  # bytes
    timeout: float | None = None  # seconds that a request may take, where that is less than usual
    allow_private: bool = False  # whether a redirect may lead from the internet to this machine or its network

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout:g} must be above 0")


def is_remote(path: str) -> bool:
    """Whether `path` is a URL such as `s3://bucket/clip.mp4`."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(".", "").isalnum()
