"""Other families written naively: what they do otherwise than a Qwen2-VL, straight from their descriptions."""

from typing import Any

import oracle
import torch
from oracle import Place, rms_norm
from torch import Tensor


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Qwen25Encoder(oracle.Encoder):
    """Most blocks attend within windows, and tokens come window by window; root mean square norms, gated MLP."""

    def __init__(self, model: Any, grids: Any) -> None:
        super().__init__(model, grids)
        side = self.config.window_size // self.config.patch_size
        corner = [(frame, row // side, column // side) for frame, (row, column) in self.with_frames()]
        order = sorted(set(corner))
        self.windows = [order.index(each) for each in corner]
        self.stream = sorted(range(len(self.windows)), key=lambda token: self.windows[token])

    def with_frames(self) -> list[tuple[int, Place]]:
        return list(zip(self.frames, self.places, strict=True))

    def parts(self, block: int) -> list[int]:
        return self.frames if block in self.config.fullatt_block_indexes else self.windows

    def norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, self.get(f"{name}.weight"), 1e-6)

    def mlp(self, x: Tensor, block: int) -> Tensor:
        x, mlp = self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp"
        gated = silu(self.linear(x, f"{mlp}.gate_proj")) * self.linear(x, f"{mlp}.up_proj")
        return self.linear(gated, f"{mlp}.down_proj")

    def lengths(self, tokens: list[int]) -> list[int]:
        windows = [self.windows[token] for token in tokens]
        return [windows.count(window) for window in sorted(set(self.windows))]


def places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """Places of words, a video and words, in a Qwen2-VL."""
    return oracle.places(before, ("video", *grid), after)


def timed_places(before: int, grid: Any, times: list[float], words: int, after: int, rate: int = 2) -> list[Place]:
    """The same in a Qwen2.5-VL, where temporal patches that start at `times` are at so many places a second."""
    frames, rows, columns = grid[0], grid[1] // 2, grid[2] // 2
    pace = round((times[-1] - times[0]) / max(1, frames - 1), 3)
    steady = all(abs(time - times[0] - pace * i) * rate < 0.5 for i, time in enumerate(times))
    seconds = [pace * i if steady else time - times[0] for i, time in enumerate(times)]
    result: list[Place] = [(i,) * 3 for i in range(before)]
    result += [
        (before + int(second * rate), before + row, before + column)
        for second in seconds
        for row in range(rows)
        for column in range(columns)
    ]
    start = max(max(place) for place in result) + 1
    return result + [(start + i,) * 3 for i in range(after)]
