"""Which tokens are kept: four rules, as pure tensor functions over one packed sequence `[n, d]`."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ipcv.compression.compressors.tokens import in_chunks

Select = Literal["coverage", "change", "uniform", "random"]

SHARES = (0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7)  # of the tokens, that `sufficient` tries
LOSS, POWER = 0.0913, 1.17  # of the fidelity lost to a distance, see `expected_fidelity`
ROUNDS = 8  # of adding the tokens that are least like any chosen one
STEP, JUMP = 2654435769, 1779033703  # 2^32 times the golden ratio and the root of 2, less their whole parts


@dataclass(frozen=True)
class Stream:
    """The patches at the pruning layer, frame after frame; other tokens (CLS) are left out."""

    before: Tensor  # [n, d] input of the block ahead
    states: Tensor  # [n, d] its output
    features: Tensor  # [n, d] what each is like, see `ipcv.compression.compressors.features`
    frame: Tensor  # [n] which frame each is of
    place: Tensor  # [n] place in the frame


def choose(select: Select, stream: Stream, count: int) -> Tensor:
    """`count` positions `[count]`, ascending, chosen by the rule called `select`."""
    return RULES[select](stream, count).sort().values


def most_changed(stream: Stream, count: int) -> Tensor:
    """The tokens that the block ahead changed most (L2 norm of its update): the paper's rule."""
    change = torch.linalg.vector_norm(stream.states - stream.before, dim=-1, dtype=torch.float32)
    return change.topk(count).indices


def evenly(stream: Stream, count: int) -> Tensor:
    """A low-discrepancy lattice over time and place: no features are read."""
    phase = (stream.place * STEP + stream.frame * JUMP) % 2**32
    return phase.topk(count, largest=False).indices


def at_random(stream: Stream, count: int) -> Tensor:
    """Any tokens, the same ones for every pass over as many."""
    order = torch.randperm(len(stream.states), generator=torch.Generator().manual_seed(0))
    return order[:count].to(stream.states.device)


def coverage(stream: Stream, count: int) -> Tensor:
    """Tokens from which all others can be rebuilt: half of them evenly spread, then those least like any chosen one.

    Likeness is Euclidean distance between features. The second half comes in rounds that each add the tokens farthest
    from what is chosen so far, which is much cheaper than one at a time and hardly different. Tokens that repeat over
    time are covered by the first of them.
    """
    features, own = stream.features, stream.features.square().sum(-1)
    first, *rounds = round_sizes(count)
    chosen = newest = evenly(stream, first)
    distance = torch.full_like(own, torch.inf)
    for size in rounds:
        distance = torch.minimum(distance, own + _nearest_distance(features, features[newest]))
        distance[newest] = -1.0  # never twice, also where all that is left is alike
        newest = distance.topk(size).indices
        chosen = torch.cat((chosen, newest))
    return chosen


def sufficient(stream: Stream, quality: float) -> Tensor:
    """As few tokens, in steps of `SHARES`, as `coverage` needs for an `expected_fidelity` of `quality` or more.

    The largest step if none is enough. The device is asked once per step.
    """
    chosen = stream.frame[:0]
    for share in SHARES:
        chosen = coverage(stream, max(1, int(share * len(stream.states))))
        if expected_fidelity(stream.features, chosen) >= quality:
            break
    return chosen


def expected_fidelity(features: Tensor, chosen: Tensor) -> float:
    """What the mean cosine of the encoder's output to the uncompressed one will be, judged by `features` `[n, d]`.

    It falls with the mean squared distance, per value, from a token to the nearest one of those `chosen`: a power law
    fitted to DINOv2-small on 8 real clips, 3 to 50 % of the tokens kept from block 3 on. There it is off by 0.03 on
    average; a clip's own curve is followed closer than the differences between clips. Other models are not calibrated.
    """
    own = features.square().sum(-1)
    distance = (own + _nearest_distance(features, features[chosen])).clamp_min(0).mean() / features.shape[-1]
    return float(1 - LOSS * distance**POWER)


def round_sizes(count: int) -> list[int]:
    """How many of `count` tokens each round of `coverage` adds: half, then `ROUNDS` equal parts of the rest."""
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
