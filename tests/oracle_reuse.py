"""Reuse over time, and keys and values from neighbours, written naively: nothing shared with `ipcv`.

A patch is *known* by its pixels, its state ahead of each block and its key and value in each block. Whoever reuses a
patch points to what is known of the older one; so nothing is copied, and nothing can be forgotten.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import oracle
import torch
from oracle import Place
from oracle_styles import style_of
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a pass."""

    keep: float = 1.0
    layer: int = 2
    stabilize: int = 99
    neighbors: int = 3
    select: str = "coverage"
    blend: str = "distance"
    stabilizer: str = "neighbors"
    reuse: float = 0.0
    cut: float = 1.0
    refresh: int = 10**6
    pixel_range: float = 1.0


@dataclass(eq=False)
class Known:
    """One computed patch."""

    pixels: Any = None
    states: list[Tensor] = field(default_factory=list)  # ahead of block 0, block 1 … and behind the last
    heads: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # per block: key, not rotated, and value


@dataclass
class Memory:
    """All that one slice hands to the next one of its video."""

    size: int  # patches
    whole: list[Tensor]  # pixels of the slice that was last computed whole
    since: int  # slices from there to this one
    patches: list[Known]  # of each place, the one that was last computed


@dataclass
class Result:
    """One pass."""

    tokens: Tensor  # [n, d] behind the last block
    merged: Tensor
    taps: list[Tensor]
    lengths: list[int]  # kept tokens of each part
    computed: list[int]  # computed tokens of each part
    masks: list[list[list[bool]]]  # slice, row, column: whether it is computed
    memory: Memory | None  # of the last slice
    keep: list[int]
    chosen: int = 0  # patches, not CLS


def change(new: Tensor, old: Tensor, pixel_range: float) -> float:
    """How much a patch `[channels, frames, side, side]` changed: the largest of 4 × 4 parts of any of its frames.

    Of each part the root of the mean square, over its pixels and their channels.
    """
    squares = ((new - old) / pixel_range).square().mean(0)
    side, most = squares.shape[-1], 0.0
    for frame in squares:
        for row in range(4):
            for column in range(4):
                top, left = row * side // 4, column * side // 4
                bottom, right = -(-(row + 1) * side // 4), -(-(column + 1) * side // 4)
                most = max(most, float(frame[top:bottom, left:right].mean()))
    return most**0.5


def patches_of(encoder: Any) -> list[list[int]]:
    """The patches of each slice."""
    slices: dict[int, list[int]] = {}
    for token, frame in enumerate(encoder.frames):
        slices.setdefault(frame, [])
        if token not in encoder.protected:
            slices[frame].append(token)
    return list(slices.values())


def look(
    new: list[Tensor], places: list[Place], before: Memory | None, settings: Settings
) -> tuple[list[Known | None], Memory]:
    """For each patch of a slice the older one in its place, or None: it is to be computed. And what comes of it."""
    fresh, limit = [Known(pixels) for pixels in new], settings.reuse
    if before is None or before.size != len(new) or not limit:
        return [None] * len(new), Memory(len(new), new, 0, fresh)
    changes = [change(a, b, settings.pixel_range) for a, b in zip(new, before.whole, strict=True)]
    share = sum(each >= limit for each in changes) / len(new)
    if share > settings.cut or before.since + 1 >= settings.refresh:
        return [None] * len(new), Memory(len(new), new, 0, fresh)
    changes = [change(a, old.pixels, settings.pixel_range) for a, old in zip(new, before.patches, strict=True)]
    far = [place for place, each in zip(places, changes, strict=True) if each >= limit]
    older = []
    for (row, column), each, old in zip(places, changes, before.patches, strict=True):
        is_beside = any(max(abs(row - r), abs(column - c)) == 1 for r, c in far)
        older.append(None if each >= limit or (is_beside and each >= limit / 2) else old)
    now = [old or mine for old, mine in zip(older, fresh, strict=True)]
    return older, Memory(len(new), before.whole, before.since + 1, now)


def run(
    encoder: Any, pixels: Tensor, settings: Settings, videos: Sequence[int], before: Memory | None = None
) -> Result:
    """One pass of `encoder` over `pixels`; `videos` says of which one each slice is, and `before` is of the first."""
    style = style_of(encoder)
    everything = list(range(len(encoder.places)))
    known: dict[int, Known] = {token: Known() for token in encoder.protected}
    computed = list(encoder.protected)
    slices = patches_of(encoder)
    for _, numbers in groupby(range(len(slices)), key=lambda number: videos[number]):
        memory, before = before, None
        for number in numbers:
            new = [style.pixels(pixels, token).double() for token in slices[number]]
            places = [encoder.places[token] for token in slices[number]]
            older, memory = look(new, places, memory, settings)
            for token, old, now in zip(slices[number], older, memory.patches, strict=True):
                known[token] = now
                computed += [token] if old is None else []
    computed = sorted(computed)
    embedded = encoder.embed(pixels)
    for token in computed:
        known[token].states = [embedded[token]]
    left = _through(encoder, style, settings, known, computed)
    final = torch.stack([known[token].states[-1] for token in everything])
    taps = [
        tap
        for block in range(encoder.depth)
        for tap in encoder.tap(torch.stack([known[token].states[block + 1] for token in everything]), block)
    ]
    return Result(
        final,
        encoder.merge(final),
        taps,
        encoder.lengths(left),
        encoder.lengths(computed),
        masks(encoder, computed),
        memory,
        left,
        len(left) - len(encoder.protected),
    )


def _through(encoder: Any, style: Any, settings: Settings, known: dict[int, Known], computed: list[int]) -> list[int]:
    """All blocks: fills `known` and returns the tokens that the last one computed."""
    rows, shares = computed, {}
    for block in range(encoder.depth):
        if block == settings.layer and settings.keep < 1:
            rows, shares = _choose(encoder, settings, known, computed)
        dropped = [token for token in computed if token not in rows]
        queries = {}
        for token in rows:
            query, key, value = (each[0] for each in style.heads(known[token].states[block][None], block))
            queries[token] = style.turned(query, token)
            known[token].heads.append((key, value))
        _stabilized(style, settings, known, dropped, shares, block)
        is_stable = block < settings.layer + settings.stabilize
        seen = list(range(len(encoder.places))) if is_stable else rows
        keys = {token: style.turned(known[token].heads[block][0], token) for token in seen}
        parts = style.parts(block)
        for token, query in queries.items():
            others = [other for other in seen if parts[other] == parts[token]]
            values = torch.stack([known[other].heads[block][1] for other in others])
            mixed = attention(query, torch.stack([keys[other] for other in others]), values)
            state = known[token].states[block] + style.output(mixed[None], block)[0]
            known[token].states.append(state + encoder.mlp(state[None], block)[0])
        for token in dropped:
            known[token].states.append(_rebuilt(known, token, shares[token], settings.layer))
    return rows


def attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The mixed values that a token gets from those that it sees."""
    logits = torch.einsum("hc,nhc->hn", query, keys) / query.shape[-1] ** 0.5
    return torch.einsum("hn,nhc->hc", logits.softmax(-1), values).flatten()


def _rebuilt(known: dict[int, Known], token: int, shares: dict[int, float], layer: int) -> Tensor:
    """A dropped token: it moved like its neighbours, since the layer at which it was dropped."""
    moved = [part * (known[other].states[-1] - known[other].states[layer]) for other, part in shares.items()]
    return known[token].states[layer] + sum(moved)


def _stabilized(
    style: Any, settings: Settings, known: dict[int, Known], dropped: list[int], shares: Any, block: int
) -> None:
    """Keys and values of the dropped tokens: of their rebuilt states, or the means of their neighbours'."""
    for token in dropped:
        if settings.stabilizer == "states":
            _, key, value = (each[0] for each in style.heads(known[token].states[block][None], block))
        else:
            near = [(known[other].heads[block], part) for other, part in shares[token].items()]
            key = sum(part * heads[0] for heads, part in near)
            value = sum(part * heads[1] for heads, part in near)
        known[token].heads.append((key, value))


def _choose(
    encoder: oracle.Encoder, settings: Settings, known: dict[int, Known], computed: list[int]
) -> tuple[list[int], dict[int, dict[int, float]]]:
    """The tokens that go on, and of which of them, and how much, each other computed patch is made."""
    everything = range(len(encoder.places))
    candidates = [token for token in computed if token not in encoder.protected]
    before, x = (
        torch.stack([known[token].states[block] for token in everything])
        for block in (settings.layer - 1, settings.layer)
    )
    patches = len(encoder.places) - len(encoder.protected)
    least = max(1, int(patches * min(1 / 16, settings.keep / 4)))
    count = max(int(len(candidates) * settings.keep), min(len(candidates), least))
    features = encoder.describe(x)
    ranking = encoder.ranking(settings.select, before, x, features, candidates, count) if count else []
    chosen = sorted(ranking[:count])
    compared = features if settings.blend == "distance" else x
    shares: dict[int, dict[int, float]] = {}
    for token in candidates:
        if token in chosen:
            continue
        far = {other: float((compared[token] - compared[other]).square().sum()) for other in chosen}
        near = sorted(chosen, key=lambda other, far=far: far[other])[: settings.neighbors]
        steps = [(far[near[0]] - far[other]) / (0.3 * far[near[0]]) for other in near]
        weights = [1.0 if settings.blend == "mean" else math.exp(step) for step in steps]
        shares[token] = {other: weight / sum(weights) for other, weight in zip(near, weights, strict=True)}
    return sorted([*chosen, *encoder.protected]), shares


def masks(encoder: Any, computed: list[int]) -> list[list[list[bool]]]:
    """Which patches of each slice are computed, row by row."""
    there, result = set(computed), []
    for tokens in patches_of(encoder):
        size = [1 + max(encoder.places[token][axis] for token in tokens) for axis in (0, 1)]
        picture = [[False] * size[1] for _ in range(size[0])]
        for token in tokens:
            row, column = encoder.places[token]
            picture[row][column] = token in there
        result.append(picture)
    return result
