"""Features by which patches are compared: of the patch itself, its surroundings and its frame.

Two patches with similar states become different in later blocks if their surroundings differ, because they attend to
these. So the features of a patch are its layer-normed state plus the means of the states around it and of its frame.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.grids import Grid

FRAME = 10.0  # weight of the frame's mean; the patch itself and the 3 × 3 patches around it have 1


def describe(states: Tensor, grids: Sequence[Grid], merge: int, order: Tensor | None = None) -> Tensor:
    """Features `[n, d]` (float32) of patches with these `states` `[n, d]`.

    `grids` are the frames, rows and columns of each visual input. Patches come frame by frame and row by row in squares
    of `merge` × `merge`; where they come otherwise, `order` `[n]` says where each stands in that sequence.
    """
    if order is not None:
        return describe(states[order.argsort()], grids, merge)[order]
    normed = F.layer_norm(states.float(), states.shape[-1:])
    parts = normed.split([frames * rows * columns for frames, rows, columns in grids])
    features = torch.cat([_described(part, grid, merge) for part, grid in zip(parts, grids, strict=True)])
    return features - features.mean(0)  # a large common offset would drown the distances in float32


def _described(normed: Tensor, grid: Grid, merge: int) -> Tensor:
    image = in_rows(normed, grid, merge)
    # the channels stay last in memory: nothing but whole patches is moved, and the pooling is faster so
    around = F.avg_pool2d(image.permute(0, 3, 1, 2), 3, stride=1, padding=1, count_include_pad=False)
    mixed = image + around.permute(0, 2, 3, 1) + FRAME * image.mean((1, 2), keepdim=True)
    return in_squares(mixed, merge).view(normed.shape)


def in_rows(patches: Tensor, grid: Grid, merge: int) -> Tensor:
    """Patches `[n, ...]`, which come in squares of `merge` × `merge`, as `[frames, rows, columns, ...]`."""
    frames, rows, columns = grid
    squares = patches.view(frames, rows // merge, columns // merge, merge, merge, *patches.shape[1:])
    return squares.transpose(2, 3).reshape(*grid, *patches.shape[1:])


def in_squares(image: Tensor, merge: int) -> Tensor:
    """Values `[frames, rows, columns, ...]` as those of patches in squares `[frames, rows * columns, ...]`."""
    frames, rows, columns = image.shape[:3]
    squares = image.view(frames, rows // merge, merge, columns // merge, merge, *image.shape[3:])
    return squares.transpose(2, 3).reshape(frames, rows * columns, *image.shape[3:])
