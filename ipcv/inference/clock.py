"""Wall time and peak memory, stage by stage."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ipcv.answer import StageName


class Clock:
    """Wall time and peak memory per stage; a stage may be entered many times."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[StageName, float] = {}
        self.peak: dict[StageName, int] = {}

    def add(self, seconds: Mapping[StageName, float]) -> None:
        """Count what was measured before, when a video was encoded."""
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    @contextmanager
    def stage(self, name: StageName) -> Iterator[None]:
        """Add what happens inside to the stage `name`. Waits for the device at both ends."""
        self._settle(reset=True)
        start = time.perf_counter()
        try:
            yield
        finally:
            peak = self._settle()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            if peak is not None:
                self.peak[name] = max(peak, self.peak.get(name, 0))

    def _settle(self, *, reset: bool = False) -> int | None:
        if self.device.type == "cpu":
            return None
        torch.accelerator.synchronize(self.device)
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device)
        if reset:
            torch.cuda.reset_peak_memory_stats(self.device)
        return peak
