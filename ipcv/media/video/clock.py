"""One clock for a whole file, also where its time stamps start again, jump or are damaged."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
UNKNOWN = np.iinfo(np.int64).min  # a time stamp that the file does not give

JITTER = 0.1  # seconds by which times of decoding may step back within a recording
PAUSE = 10.0  # seconds for which a picture may stay in a format whose times may start again, as in players
STILL = 3600.0  # seconds for which a picture may stay in any other format
RATE = 0.04  # seconds for which a picture stays if nothing else is known
REORDERED = 16  # frames by which display may lag behind decoding, in any codec
_FAR = 1 << 60  # no sound time stamp is further from 0


@dataclass(frozen=True, eq=False)
class Clock:
    """When the pictures of a stream are shown, on one clock that goes on where the file's own jumps."""

    shown: Ticks  # [pictures] in decoding order
    jumps: int  # how often the file's times start again or step further than a picture can stay
    longest: int  # ticks for which a picture may stay
    usual: int  # ticks for which a picture usually stays


def continued(
    shown: Ticks, decoded: Ticks | None, keys: NDArray[np.bool_], *, tick: float, usual: int, restarting: bool
) -> Clock:
    """Put the recordings of a stream one after the other, as players do.

    `shown`, `decoded`: when each picture is shown and decoded (None: the format does not say), and `keys`: whether it
    is a key frame, all in decoding order; `tick`: seconds; `usual`: how long a picture stays if its neighbours do not
    tell; `restarting`: the format allows times to start again.
    A recording ends where times step back, and where they step ahead further than a picture can stay.
    """
    shown = np.clip(shown, -_FAR, _FAR)
    order = shown if decoded is None else _filled(decoded)
    still = int(STILL / tick)
    forward = np.diff(order if decoded is not None else np.sort(order))
    forward = forward[(forward > 0) & (forward <= still)]
    rate = usual if 0 < usual <= still else int(RATE / tick)  # a damaged file's average says nothing
    usual = max(int(np.median(forward)) if len(forward) else rate, 1)
    longest = max(min(max(int(PAUSE / tick), 10 * usual), still) if restarting else still, usual)
    steps = np.diff(order)
    back = max(REORDERED * usual, int(PAUSE / tick)) if decoded is None else int(JITTER / tick)
    ends = (steps < -back) | (steps > longest)
    ends |= _begins_again(shown, keys)[1:] if decoded is None else keys[1:] & (steps < 0)
    starts = [0, *(np.flatnonzero(ends) + 1).tolist()]
    parts = [_closed(part, longest, usual) for part in np.split(shown, starts[1:])]
    for (before, start), ((earlier, _), (part, _)) in zip(pairwise(starts), pairwise(parts), strict=True):
        if decoded is None or keys[start] or steps[start - 1] < 0:
            part += earlier.max() + usual - part.min()  # another recording: nothing of the two is mixed
        else:  # a group of pictures with a damaged stamp inside: some are shown before ones that were decoded earlier
            part += (earlier[0] - shown[before]) + usual - steps[start - 1]
    jumps = len(parts) - 1 + sum(gaps for _, gaps in parts)
    return Clock(np.concatenate([part for part, _ in parts]), jumps, longest, usual)


def _filled(decoded: Ticks) -> Ticks:
    """Times of decoding, where some are missing: those before."""
    known = np.flatnonzero(decoded != UNKNOWN)
    before = np.searchsorted(known, np.arange(len(decoded)), side="right") - 1
    return np.clip(decoded[known[np.maximum(before, 0)]], -_FAR, _FAR)


def _begins_again(shown: Ticks, keys: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Key frames that are shown before what was decoded before them: in one recording, none is."""
    starts = np.flatnonzero(keys)
    begins = np.zeros(len(shown), bool)
    if not len(starts) or 2 * len(starts) > len(shown):  # a file may call all of its frames key frames
        return begins
    latest = int(shown[: starts[0]].max(initial=-_FAR))
    for start, highest in zip(starts.tolist(), np.maximum.reduceat(shown, starts).tolist(), strict=True):
        begins[start] = shown[start] <= latest
        latest = highest if begins[start] else max(latest, highest)
    return begins


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
