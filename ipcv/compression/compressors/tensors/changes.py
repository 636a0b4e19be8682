"""Which patches of a video changed, slice by slice, and which are computed for that: a question of pixels alone.

A slice is one frame, or the frames of a temporal patch. Its patches are compared with older ones at their places.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = 4  # per side of a patch: a small letter fills some of these parts and not the whole patch
NEARBY = 0.5  # of the threshold is enough next to a patch that changed: so the end of a letter changes with the letter


@dataclass(frozen=True)
class Rule:
    """When a patch is computed, and when a whole slice is."""

    threshold: float  # change from which on a patch is computed, in the unit of the pixels
    cut: float  # share of changed patches above which the whole slice is
    refresh: int  # slices after which the next one is


@dataclass(frozen=True)
class Reference:
    """The pixels that the next slice of a video is compared with, at each of its `p` places."""

    computed: Tensor  # [p, channels, frames, height, width] of the patch that was last computed there
    whole: Tensor  # [p, ...] of the last slice that was computed whole
    age: Tensor  # [] slices since then


def change(now: Tensor, before: Tensor) -> Tensor:
    """How much each patch changed, `[p]`, from `before` to `now` `[p, channels, frames, height, width]`.

    The root of the mean squared difference within each of `BLOCKS` × `BLOCKS` parts of a patch, and of these the
    largest. Noise is everywhere and small, ink is in few places and large: squares tell the two apart.
    """
    difference = (now - before).square().mean(1)
    return F.adaptive_avg_pool2d(difference, BLOCKS).flatten(1).amax(1).sqrt()


def changed(change: Tensor, threshold: float) -> Tensor:
    """Where a `change` `[rows, columns]` is at least `threshold`, or `NEARBY` of that next to such a patch."""
    is_large = change >= threshold
    around = F.max_pool2d(is_large[None].float(), 3, stride=1, padding=1)[0] > 0
    return is_large | (around & (change >= NEARBY * threshold))


def computed_patches(pixels: Tensor, rule: Rule, before: Reference | None = None) -> tuple[Tensor, Reference]:
    """Which patches of a video are computed, `[s, rows, columns]`.

    `pixels` are `[s, rows, columns, channels, frames, height, width]`. A patch is computed if it has `changed` since it
    was last computed. A slice is computed whole if it is the first, if more than the rule's `cut` of its patches differ
    by the threshold from the last slice that was computed whole, or if that is `refresh` slices ago. `before` is what
    the slices ahead of these left behind. Nothing is transferred to the host.
    """
    picture, slices = pixels.shape[1:3], list(pixels.flatten(1, 2))
    masks = []
    if before is None:
        before = Reference(slices[0], slices[0], torch.zeros((), dtype=torch.int32, device=pixels.device))
        masks.append(torch.ones(picture, dtype=torch.bool, device=pixels.device))
    for now in slices[len(masks) :]:
        is_far = change(now, before.whole) >= rule.threshold
        is_whole = (is_far.float().mean() > rule.cut) | (before.age + 1 >= rule.refresh)
        mask = changed(change(now, before.computed).view(picture), rule.threshold) | is_whole
        before = Reference(
            computed=torch.where(mask.view(-1, 1, 1, 1, 1), now, before.computed),
            whole=torch.where(is_whole, now, before.whole),
            age=torch.where(is_whole, 0, before.age + 1),
        )
        masks.append(mask)
    return torch.stack(masks), before
