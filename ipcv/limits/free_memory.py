"""How much memory is free on a device, by whichever limit is the lowest."""

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def free_memory(device: "torch.device") -> tuple[int, str]:
    """Bytes, and what says so. Limits of the container (cgroup) and of the process (ulimit -v) count."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], f"of {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), "of the GPU's share"
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0], f"of {torch.xpu.get_device_name(device)}"
    found = free_host_memory()
    if not found:
        raise ValueError("it is not known here how much memory is free: choose the settings without `fit`")
    return found


def free_host_memory() -> tuple[int, str] | None:
    """Bytes of the host's memory, and what says so; None where that cannot be known."""
    found = [*_system(), *_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")), *_process()]
    return min(found, default=None)


def _system() -> Iterator[tuple[int, str]]:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        yield int(line.split()[1]) * 1024, "of this machine"


def _groups(root: Path, own: Path) -> Iterator[tuple[int, str]]:
    """Bytes that the process's cgroup and those above it leave: version 2, and version 1's memory controller."""
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, limit, used = (root, "memory.max", "memory.current")
            if controllers:
                top, limit, used = (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield from _group(folder, limit, used)
                if folder == top:
                    break


def _group(folder: Path, limit: str, used: str) -> Iterator[tuple[int, str]]:
    with suppress(OSError, ValueError):  # ValueError: "max", there is no limit
        most, taken = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        files = [
            line.split()[1]
            for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            if line.split()[0] in ("inactive_file", "total_inactive_file")
        ]
        yield max(0, most - taken + (int(files[-1]) if files else 0)), "of this container's limit"


def _process() -> Iterator[tuple[int, str]]:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        yield max(0, most - pages * resource.getpagesize()), "of this process's limit"
