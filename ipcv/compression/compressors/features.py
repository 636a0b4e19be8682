"""What a patch is like: itself, its surroundings and its frame.

Two patches with alike states part ways in later blocks where their surroundings differ, because they attend to other
things. So a patch is described by its layer-normed state plus the mean of those around it and of its whole frame.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.grids import Grid

FRAME = 10.0  # weight of the frame; that of the patch itself and of the 3 × 3 patches around it is 1


def describe(states: Tensor, grids: Sequence[Grid], merge: int, order: Tensor | None = None) -> Tensor:
    """Features `[n, d]` (float32) of patches with these `states` `[n, d]`.

    `grids` are the frames, rows and columns of each visual input; patches come frame by frame, row by row, in squares
    of `merge` × `merge`, or else in `order` `[n]`: which of those each one is.
    """
    if order is not None:
        return describe(states[order.argsort()], grids, merge)[order]
    normed = F.layer_norm(states.float(), states.shape[-1:])
    parts = normed.split([frames * rows * columns for frames, rows, columns in grids])
    features = torch.cat([_described(part, grid, merge) for part, grid in zip(parts, grids, strict=True)])
    return features - features.mean(0)  # what all have in common would drown their distances in float32


def _described(normed: Tensor, grid: Grid, merge: int) -> Tensor:
    frames, rows, columns = grid
    squares = normed.view(frames, rows // merge, columns // merge, merge, merge, -1)
    image = squares.permute(0, 5, 1, 3, 2, 4).reshape(frames, -1, rows, columns)
    around = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    whole = image.mean((2, 3), keepdim=True)
    mixed = (image + around + FRAME * whole).view(frames, -1, rows // merge, merge, columns // merge, merge)
    return mixed.permute(0, 2, 4, 3, 5, 1).reshape(normed.shape)
