"""What a process does to itself before it begins, so that the system or the clock is against it."""

import ctypes
import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Any

import psutil
import torch

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2  # what lets root write everywhere
CAPABILITIES = 0x20080522  # version 3 of their form
TOO_MUCH = 1 << 62  # bytes


def limit(kind: int, most: int) -> None:
    """The system refuses more than that."""
    resource.setrlimit(kind, (most, most))


def limit_memory(more: int) -> None:
    """The process gets `more` bytes of address space than it has now, and so does each reader in all."""
    limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + more)


def obey_permissions() -> None:
    """Also root may only do what a file's permissions say."""
    if os.geteuid():
        return
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert system.capget(header, sets) == 0
    for index in range(3):
        sets[index] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    assert system.capset(header, sets) == 0


def jumping_clock(seed: int) -> None:
    """The clock of the day jumps back and forth, up to years, whenever it is looked at."""
    rng, right = random.Random(seed), time.time
    time.time = lambda: max(right() + rng.choice((0, 0, -1, 1, -3600, 86400, -(10**9), 10**9)), 0.0)


def hungry_function(place: str, call: int) -> None:
    """The function `module:name` asks for more memory than there is when it is called for the `call`th time."""
    module, _, name = place.partition(":")
    owner: Any = import_module(module)
    for each in name.split(".")[:-1]:
        owner = getattr(owner, each)
    last, calls = name.split(".")[-1], 0
    right = getattr(owner, last)

    def hungry(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            bytearray(TOO_MUCH)
        return right(*arguments, **more)

    setattr(owner, last, hungry)


def hungry_module(kind: str, call: int) -> None:
    """Modules of the class `kind` ask for more memory than there is in the `call`th of their forward passes."""
    calls = 0

    def hungry(module: torch.nn.Module, _: Any) -> None:
        nonlocal calls
        if type(module).__name__ == kind:
            calls += 1
            if calls == call:
                torch.empty(1 << 50, dtype=torch.uint8)

    torch.nn.modules.module.register_module_forward_pre_hook(hungry)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A disk of `size` bytes at `place`, where the system lets us mount one; whether it does."""
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    mounted = run(words, stdout=DEVNULL, stderr=DEVNULL, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            run(["umount", "-l", str(place)], check=True)
