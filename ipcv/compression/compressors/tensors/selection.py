"""Choose the tokens to keep: four rules, as pure tensor functions over one packed sequence `[n, d]`."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ipcv.compression.compressors.tensors.tokens import in_chunks

Select = Literal["coverage", "change", "uniform", "random"]

SHARES = (0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7)  # shares of the tokens that `sufficient` tries
LOSS, POWER = 0.0913, 1.17  # of the power law in `expected_fidelity`
ROUNDS = 8  # in which `coverage` adds tokens
STEP, JUMP = 2654435769, 1779033703  # 2^32 times the golden ratio and the root of 2, less their whole parts


@dataclass(frozen=True)
class Stream:
    """The patches of a pass at the pruning layer, frame after frame, without other tokens such as CLS."""

    before: Tensor  # [n, d] input of the block ahead
    states: Tensor  # [n, d] its output
    features: Tensor  # [n, d] as `features.describe` makes them
    frame: Tensor  # [n] frame of each patch
    place: Tensor  # [n] place of each patch in its frame


def choose(select: Select, stream: Stream, count: int) -> Tensor:
    """Choose `count` patches by the rule called `select`: positions `[count]`, ascending."""
    return RULES[select](stream, count).sort().values


def most_changed(stream: Stream, count: int) -> Tensor:
    """Take the tokens that the block before changed most, by the L2 norm of its update: the paper's rule."""
    change = torch.linalg.vector_norm(stream.states - stream.before, dim=-1, dtype=torch.float32)
    return change.topk(count).indices


def evenly(stream: Stream, count: int) -> Tensor:
    """Take a low-discrepancy lattice over time and place, whatever the features."""
    phase = (stream.place * STEP + stream.frame * JUMP) % 2**32
    return phase.topk(count, largest=False).indices


def at_random(stream: Stream, count: int) -> Tensor:
    """Take random tokens, always the same for passes of equal size."""
    order = torch.randperm(len(stream.states), generator=torch.Generator().manual_seed(0))
    return order[:count].to(stream.states.device)


def coverage(stream: Stream, count: int) -> Tensor:
    """Take tokens from which all others can be rebuilt: half evenly spread, half farthest from those chosen before.

    Distances are Euclidean, between features. The second half is added in rounds; to add one token at a time would cost
    much more and hardly differ. Of tokens that repeat over time, one covers the others.
    """
    features, own = stream.features, stream.features.square().sum(-1)
    first, *rounds = round_sizes(count)
    chosen = newest = evenly(stream, first)
    distance = torch.full_like(own, torch.inf)
    for size in rounds:
        distance = torch.minimum(distance, own + _nearest_distance(features, features[newest]))
        distance[newest] = -1.0  # never twice, even if all tokens left are equal
        newest = distance.topk(size).indices
        chosen = torch.cat((chosen, newest))
    return chosen


def sufficient(stream: Stream, quality: float) -> tuple[Tensor, float]:
    """Take the smallest of `SHARES` of the tokens whose `coverage` has an `expected_fidelity` of `quality` or more.

    If none reaches that, take the largest. Each share that is tried costs one transfer from the device. Also returns
    what is expected of the tokens taken.
    """
    chosen, expected = stream.frame[:0], 0.0
    for share in SHARES:
        chosen = coverage(stream, max(1, int(share * len(stream.states))))
        expected = expected_fidelity(stream.features, chosen)
        if expected >= quality:
            break
    return chosen, expected


def expected_fidelity(features: Tensor, chosen: Tensor) -> float:
    """Estimate the mean cosine between the encoder's compressed and uncompressed output from `features` `[n, d]`.

    It falls with the mean squared distance, per value, from a token to the nearest `chosen` one. The power law was
    fitted to DINOv2-small on 8 real clips, with 3 to 50 % of the tokens kept from block 3 on: there the mean error is
    0.03, less within a clip than between clips. It is not calibrated for other models.
    """
    own = features.square().sum(-1)
    distance = (own + _nearest_distance(features, features[chosen])).clamp_min(0).mean() / features.shape[-1]
    return float(1 - LOSS * distance**POWER)


def round_sizes(count: int) -> list[int]:
    """Numbers of tokens that the rounds of `coverage` add: half of `count`, then `ROUNDS` equal parts of the rest."""
    first = (count + 1) // 2
    ends = [first + (count - first) * i // ROUNDS for i in range(ROUNDS + 1)]
    return [first, *(size for start, end in pairwise(ends) if (size := end - start))]


def _nearest_distance(features: Tensor, points: Tensor) -> Tensor:
    """Squared distance `[n]` of each of `features` `[n, d]` to its nearest of `points` `[p, d]`, less its own norm."""
    squares = points.square().sum(-1)
    chunks = in_chunks(features, len(points))
    return torch.cat([torch.addmm(squares, rows, points.T, alpha=-2).amin(-1) for rows in chunks])


RULES: dict[Select, Callable[[Stream, int], Tensor]] = {
    "coverage": coverage,
    "change": most_changed,
    "uniform": evenly,
    "random": at_random,
}
