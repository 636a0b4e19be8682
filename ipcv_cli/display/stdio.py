"""Streams of which somebody has closed the other end, or whose disk is full."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO


def abandon(stream: TextIO | None) -> None:
    """Let whatever is still buffered go nowhere, so that no complaint follows when the interpreter ends."""
    if stream is not None:
        with suppress(AttributeError, OSError), Path(os.devnull).open("w") as nowhere:  # it may be closed, or no file
            os.dup2(nowhere.fileno(), stream.fileno())


class Stderr:
    """Standard error as it is at the moment. Once it cannot be written to, it is silent: the work goes on."""

    def write(self, text: str) -> int:
        """Write what can be written."""
        if sys.stderr is not None:
            try:
                sys.stderr.write(text)
            except OSError:
                abandon(sys.stderr)
        return len(text)

    def flush(self) -> None:
        """Write what is still buffered."""
        if sys.stderr is not None:
            try:
                sys.stderr.flush()
            except OSError:
                abandon(sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
