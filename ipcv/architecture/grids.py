"""The order of the patches in a pass: frame by frame, and within a frame in squares or window by window."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

Grid = tuple[int, int, int]  # frames, rows and columns of patches

NON_BLOCKING = ("cuda",)  # devices with safe non-blocking copies from memory that is freed at once


def frame_sizes(grids: Sequence[Grid], head: int = 0) -> list[int]:
    """Tokens of each frame: its patches, and `head` tokens ahead of them."""
    return [head + rows * columns for frames, rows, columns in grids for _ in range(frames)]


def window_sizes(grids: Sequence[Grid], side: int) -> list[int]:
    """Patches of each window of each frame, row by row; a frame's last ones are smaller than `side` × `side`."""
    sizes = []
    for frames, rows, columns in grids:
        heights = [min(side, rows - top) for top in range(0, rows, side)]
        widths = [min(side, columns - left) for left in range(0, columns, side)]
        sizes += [height * width for height in heights for width in widths] * frames
    return sizes


def window_order(grids: Sequence[Grid], side: int, merge: int, device: torch.device) -> Tensor:
    """The patch `[n]` that each token is, where tokens come window by window.

    Patches are counted frame by frame, row by row, in squares of `merge` × `merge`; a window keeps that order.
    """
    parts, start = [], 0
    for frames, rows, columns in grids:
        squares = torch.arange(rows * columns // merge**2, device=device)
        above, left = squares * merge // columns * merge // side, squares * merge % columns // side  # windows
        order = (above * -(-columns // side) + left).argsort(stable=True)
        order = (order[:, None] * merge**2 + torch.arange(merge**2, device=device)).flatten()
        frame = start + rows * columns * torch.arange(frames, device=device)
        parts.append((frame[:, None] + order).flatten())
        start += frames * rows * columns
    return torch.cat(parts)


def bounds(sizes: Sequence[int], device: torch.device) -> Tensor:
    """Bounds `[s + 1]` (`cu_seqlens`, int32) of segments of these sizes that follow each other."""
    return to_device(torch.tensor([0, *accumulate(sizes)], dtype=torch.int32), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy `tensor` from the host to `device`."""
    return tensor.to(device, non_blocking=device.type in NON_BLOCKING)
