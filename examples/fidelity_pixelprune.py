"""PixelPrune (arXiv 2604.00886) on DINOv2: units that repeat a neighbour's pixels do not enter the encoder at all.

Units are looked at in reading order. Each is predicted from its neighbours to the left and above, and left out if its
largest pixel difference to the prediction is at most a threshold; compared are the pixels of the unit that it would
inherit from, so that errors do not add up. What is left attends to nothing but each other. Over time, a further
neighbour comes first: the unit at the same place of the frame before. DINOv2 merges no patches: each is a unit.
"""

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor


def inherited(pictures: Tensor, patch: int, threshold: float, *, over_time: bool) -> Tensor:
    """For each unit of `pictures` `[frames, side, side, 3]` uint8 the one whose features it gets, `[frames, units]`.

    Units are counted over all frames; one that is kept gets its own. `threshold` is a share of black to white.
    """
    frames, side = pictures.shape[0], pictures.shape[1] // patch
    units = pictures.view(frames, side, patch, side, patch, 3).transpose(2, 3).reshape(frames * side * side, -1)
    values = units.numpy().astype(np.int16)
    source = np.arange(frames * side**2).reshape(frames, side, side)

    def alike(one: int, other: int) -> bool:
        return bool(np.abs(values[one] - values[other]).max() <= 255 * threshold)

    for frame, row, column in product(range(frames), range(side), range(side)):
        own = source[frame, row, column]
        earlier = source[frame - 1, row, column]
        if over_time and frame and alike(own, earlier):
            source[frame, row, column] = earlier
        elif row or column:
            left, above, across = source[frame, row, column - 1], source[frame, row - 1, column], None
            if row and column:
                across = source[frame, row - 1, column - 1]
                guess = above if alike(across, left) and not alike(across, above) else left
            else:
                guess = above if row else left
            if alike(own, guess):
                source[frame, row, column] = guess
    return torch.from_numpy(source.reshape(frames, -1))


def features(model: Any, pixels: Tensor, source: Tensor) -> tuple[Tensor, list[int]]:
    """Features `[frames, 1 + units, d]` if only units that are their own `source` are computed, and their numbers.

    Numbers are those of each frame, CLS included.
    """
    frames, units = source.shape
    is_kept = source == torch.arange(frames * units).view(frames, units)
    states = model.embeddings(pixels)
    everything = torch.empty(frames * units, states.shape[-1])
    heads = []
    for number, (frame, kept) in enumerate(zip(states, is_kept, strict=True)):
        present = torch.cat((frame[:1], frame[1:][kept]))[None]
        for block in model.encoder.layer:
            present = block(present)
        head, others = model.layernorm(present)[0].split([1, int(kept.sum())])
        heads.append(head)
        everything[number * units + kept.nonzero()[:, 0]] = others
    return torch.cat((torch.stack(heads), everything[source]), 1), (1 + is_kept.sum(1)).tolist()
