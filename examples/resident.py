"""How much memory a process and those that it started have taken, on Linux."""

from pathlib import Path

import psutil


def peak() -> int:
    """Bytes in memory at most, as if the peaks of all processes had come at the same moment.

    Pages of programs and libraries that a started process shares with others count once.
    """
    this = psutil.Process()
    started = this.children(recursive=True)
    apart = sum(
        _bytes(each.pid, "status", "VmHWM") - _bytes(each.pid, "smaps_rollup", "Shared_Clean") for each in started
    )
    return _bytes(this.pid, "status", "VmHWM") + apart


def _bytes(process: int, file: str, field: str) -> int:
    lines = Path(f"/proc/{process}/{file}").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
