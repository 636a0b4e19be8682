"""How many processors this process may use."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_processors() -> int:
    """Processors that the process may run on, and no more than its container's quota (cgroup) pays for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))]))


def _quotas(root: Path, own: Path) -> Iterator[int]:
    """Quotas of the process's cgroup and those above it: version 2, and version 1's cpu controller."""
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                top, names = root, ["cpu.max"]
            elif "cpu" in controllers.split(","):
                top, names = root / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            else:
                continue
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield from _quota([folder / name for name in names])
                if folder == top:
                    break


def _quota(files: list[Path]) -> Iterator[int]:
    with suppress(OSError, ValueError):  # ValueError: "max", there is no quota
        quota, period = (int(word) for file in files for word in file.read_text(encoding="ascii").split())
        if quota > 0:
            yield math.ceil(quota / period)
