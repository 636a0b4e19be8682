"""Running `ipcv` as a person does: a process of its own."""

import os
import subprocess
import sys
from typing import IO, Any

QUIET = {"FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


def environment(**changes: str) -> dict[str, str]:
    """The environment without what would change the output, on one thread: many times faster on busy cores."""
    kept = {name: value for name, value in os.environ.items() if name not in QUIET}
    return kept | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"} | changes


def ipcv(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `ipcv` with `arguments` to its end; `changes` to the environment."""
    command = [sys.executable, "-m", "ipcv_cli", *arguments]
    return subprocess.run(command, env=environment(**changes), capture_output=True, encoding="utf-8", timeout=120)


def start(*arguments: str, **streams: int | IO[Any]) -> subprocess.Popen[bytes]:
    """Start `ipcv` with `arguments` and `streams` such as `stdout`."""
    return subprocess.Popen([sys.executable, "-m", "ipcv_cli", *arguments], env=environment(), **streams)
