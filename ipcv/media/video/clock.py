"""One clock for a whole file, also where its time stamps start again, jump or are damaged."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
UNKNOWN = np.iinfo(np.int64).min  # a time stamp that the file does not give

JITTER = 0.1  # seconds by which times of decoding may step back within a recording
PAUSE = (
    10.0  # seconds for which a picture may stay in a format whose times may start again; players see a new recording
)
STILL = 3600.0  # seconds for which a picture may stay in any other format
_FAR = 1 << 60  # no sound time stamp is further from 0


@dataclass(frozen=True, eq=False)
class Clock:
    """When the pictures of a stream are shown, on one clock that goes on where the file's own jumps."""

    shown: Ticks  # [pictures] in decoding order
    jumps: int  # how often the file's times start again or step further than a picture can stay
    longest: int  # ticks for which a picture may stay
    usual: int  # ticks for which a picture usually stays


def continued(
    shown: Ticks, decoded: Ticks, keys: NDArray[np.bool_], *, tick: float, usual: int, restarting: bool
) -> Clock:
    """Put the recordings of a stream one after the other, as players do.

    `shown`, `decoded`: when each picture is shown and decoded, and `keys`: whether it is a key frame, all in decoding
    order; `tick`: seconds; `usual`: how long a picture stays if its neighbours do not tell; `restarting`: the format
    allows times to start again.
    A recording ends where times of decoding step back, and where they step ahead further than a picture can stay.
    """
    reliable, order = _times_of_decoding(shown, decoded)
    steps = np.diff(order)
    still = int(STILL / tick)
    forward = steps[(steps > 0) & (steps <= still)]
    usual = max(int(np.median(forward)) if len(forward) else usual, 1)
    longest = max(min(max(int(PAUSE / tick), 10 * usual), still) if restarting else still, usual)
    back = JITTER if reliable else PAUSE
    ends = (steps < -int(back / tick)) | (steps > longest) | (reliable & keys[1:] & (steps < 0))
    parts = [_closed(part, longest, usual) for part in np.split(np.clip(shown, -_FAR, _FAR), np.flatnonzero(ends) + 1)]
    for (before, _), (part, _) in pairwise(parts):
        part += before.max() + usual - part.min()
    jumps = len(parts) - 1 + sum(gaps for _, gaps in parts)
    return Clock(np.concatenate([part for part, _ in parts]), jumps, longest, usual)


def _times_of_decoding(shown: Ticks, decoded: Ticks) -> tuple[bool, Ticks]:
    """Times that ascend within a recording, and whether they do so strictly: those of display do it roughly."""
    known = np.flatnonzero(decoded != UNKNOWN)
    if 2 * len(known) <= len(decoded):
        return False, np.clip(shown, -_FAR, _FAR)
    before = np.searchsorted(known, np.arange(len(decoded)), side="right") - 1
    return True, np.clip(decoded[known[np.maximum(before, 0)]], -_FAR, _FAR)


def _closed(shown: Ticks, longest: int, usual: int) -> tuple[Ticks, int]:
    """Close gaps that are longer than a picture can stay (damaged stamps), and count them."""
    if not len(shown):
        return shown, 0  # a damaged file whose packets hold no picture that is shown
    order = np.argsort(shown, kind="stable")
    steps = np.diff(shown[order])
    gaps = steps > longest
    closed = shown.copy()
    closed[order[1:]] = shown[order[0]] + np.cumsum(np.where(gaps, usual, steps))
    return closed, int(gaps.sum())
