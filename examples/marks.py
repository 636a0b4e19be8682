"""Timing the parts that compression adds to an encoder's pass, and naming them in a trace."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import record_function

from ipcv.compression.compressors.ipcv_hooks import IPCVHooks
from ipcv.compression.compressors.tensors.tokens import Split

DECIDING = {"compare": (IPCVHooks, "begin"), "choose": (IPCVHooks, "split")}
OWN = {**DECIDING, "rebuild": (Split, "rebuild"), "mean": (Split, "average"), "join": (Split, "join")}


def clock(device: torch.device) -> float:
    """Read a clock in seconds: on a CPU the time of the process, elsewhere that of the wall."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


@dataclass
class Marks:
    """Start and end of every call of a part that compression adds."""

    device: torch.device
    parts: Mapping[str, tuple[type, str]] = field(default_factory=lambda: OWN)
    spans: list[tuple[Any, Any]] = field(default_factory=list)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Mark all calls inside the `with`."""
        with ExitStack() as stack:
            for name, (owner, method) in self.parts.items():
                stack.enter_context(patch.object(owner, method, self.mark(name, getattr(owner, method))))
            yield

    def mark(self, name: str, function: Any) -> Any:
        """Wrap a function so that its calls are timed and named."""

        @wraps(function)
        def marked(*args: Any) -> Any:
            with record_function(f"ipcv: {name}"):
                start = self.now()
                result = function(*args)
                self.spans.append((start, self.now()))
            return result

        return marked

    def now(self) -> Any:
        """Take the time; on a GPU as an event, for which nobody waits."""
        if self.device.type != "cuda":
            return clock(self.device)
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """Add up the seconds of all calls."""
        if self.device.type != "cuda":
            return sum(end - start for start, end in self.spans)
        return sum(start.elapsed_time(end) for start, end in self.spans) / 1000
