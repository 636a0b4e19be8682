"""FLOPs of an encoder pass that IPCV compresses, in closed form, its own work included.

What counts, and what does not, stands in `ipcv.architecture.shapes`. All functions take the `IPCV` settings.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import TYPE_CHECKING

from ipcv.architecture.shapes import VisionShape, attention, linear
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import block_flops, ends_flops
from ipcv.compression.compressors.tensors.selection import SHARES, round_sizes

if TYPE_CHECKING:
    from ipcv.compression.compressors.ipcv_compressor import IPCV


def pass_flops(shape: VisionShape, work: PassWork, settings: "IPCV") -> int:
    """FLOPs of one compressed pass; arguments and errors as of `Compressor.flops`.

    Attention is within frames or windows, so what a pass costs depends on how the computed tokens are spread.
    """
    settings.check(shape)
    tokens, head = sum(work.frames), shape.head * len(work.frames)
    parts = work.windows if shape.window else work.frames
    computed = work.computed or parts
    kept = work.kept if settings.keep != 1 else computed
    _check_kept(sum(kept) - head, sum(computed) - head, tokens - head, settings)
    first = settings.layer if settings.keep != 1 else shape.blocks
    flops = ends_flops(shape, tokens - head) + _compared_pixels(shape, tokens - head, settings)
    if settings.keep != 1:
        flops += split_flops(shape.width, sum(computed) - head, sum(kept) - head, settings, described=tokens - head)
        flops += _restorations(shape, settings) * restore_flops(shape.width, sum(computed), sum(kept), settings)
    stable = first + settings.stable(shape.blocks) if settings.keep != 1 else shape.blocks
    for block in range(shape.blocks):
        all_ = work.windows if shape.in_windows(block) else work.frames
        some = [_divided(each, parts, all_) for each in (computed, kept)]
        if block < first and not settings.reuse:
            flops += block_flops(shape, all_, tokens)
        elif block < first:
            flops += _block(shape, some[0], all_, sum(computed))
        elif block < stable:
            flops += _stable_block(shape, some[1], all_, sum(computed), settings)
        else:
            flops += _block(shape, some[1], some[1], sum(kept))
    return flops


def _check_kept(kept: int, computed: int, patches: int, settings: "IPCV") -> None:
    """Raise `ValueError` if so many patches cannot be those that are kept of the `computed` ones of all `patches`."""
    if settings.keep in (None, 1):
        return
    if kept != (count := settings.count(computed, patches)):
        raise ValueError(f"kept={kept} tokens, but keep={settings.keep} of {computed} keeps {count}")


def _compared_pixels(shape: VisionShape, patches: int, settings: "IPCV") -> int:
    """FLOPs of comparing the pixels of patches with those that were last computed, and with those of a whole slice."""
    difference = 3 * shape.patch_values + shape.patch_values // 3  # a difference, its size, two means
    return 2 * patches * difference if settings.reuse else 0


def _restorations(shape: VisionShape, settings: "IPCV") -> int:
    """How often dropped tokens are rebuilt: at the end, for DeepStack, and before stabilised blocks that need it."""
    read = sum(settings.layer - 1 <= block < shape.blocks - 1 for block in shape.deepstack)
    return 1 + read + (settings.stable(shape.blocks) if settings.stabilizer == "states" else 0)


def _divided(counts: Sequence[int], parts: Sequence[int], into: Sequence[int]) -> Sequence[int]:
    """Counts per part of `into`, from those per part of `parts`; every part of `into` is made of whole `parts`."""
    if parts is into:
        return counts
    ends, sums = [0, *accumulate(parts)], [0, *accumulate(counts)]
    below = dict(zip(ends, sums, strict=True))  # counted ahead of each part's end
    return [below[end] - below[start] for start, end in pairwise([0, *accumulate(into)])]


def split_flops(width: int, tokens: int, kept: int, settings: "IPCV", *, described: int | None = None) -> int:
    """FLOPs of choosing `kept` of `tokens` and of finding the neighbours of the others, once per pass.

    `described` are the patches whose features are made, if they are more than those to choose from.
    """
    dropped = tokens - kept
    flops = 0
    if settings.compares_features:
        every = tokens if described is None else described
        flops += 21 * every * width  # norm 5, mean of 3 × 3 patches 10, of the frame 1, weighted sum 3, centring 2
    if settings.select == "change":
        flops += 3 * tokens * width  # difference, square, sum
    if settings.quality:
        tried = (max(1, int(share * tokens)) for share in SHARES)
        flops += sum(
            _coverage(width, tokens, count) + _compared(width, tokens, count) for count in tried if count <= kept
        )
    elif settings.select == "coverage":
        flops += _coverage(width, tokens, kept)
    flops += (tokens + kept) * width  # mean of the kept, subtracted from all
    flops += 2 * (kept + dropped) * width + 2 * dropped * kept * width  # norms, distances
    if settings.blend == "distance":
        flops += 7 * dropped * min(settings.neighbors, kept)  # difference, division, softmax
    return flops


def _coverage(width: int, tokens: int, kept: int) -> int:
    """FLOPs of `selection.coverage`. The tokens of its last round are compared with none."""
    return _compared(width, tokens, sum(round_sizes(kept)[:-1]))


def _compared(width: int, tokens: int, points: int) -> int:
    """FLOPs of the distances from all tokens to `points` of them: norms, products."""
    return 2 * (tokens + points) * width + 2 * tokens * points * width


def restore_flops(width: int, tokens: int, kept: int, settings: "IPCV") -> int:
    """FLOPs of rebuilding the dropped tokens once: before every stabilised block and after the last block."""
    change = kept * width
    each = 1 if settings.blend == "mean" else 2  # a sum, or a product and a sum
    mean = each * (tokens - kept) * min(settings.neighbors, kept) * width
    moved = (tokens - kept) * width
    return change + mean + moved


def _block(shape: VisionShape, queries: Sequence[int], keys: Sequence[int], tokens: int) -> int:
    """FLOPs of a block with keys and values of so many `tokens`: `queries` of each part attend to `keys` of it."""
    mixing = attention(shape.width, sum(map(mul, queries, keys)))
    projections = linear(sum(queries) + tokens, shape.width, 2 * shape.width)  # queries, output; keys, values
    return projections + mixing + linear(sum(queries), shape.width, shape.mlp_parts * shape.mlp_width)


def _stable_block(
    shape: VisionShape, queries: Sequence[int], keys: Sequence[int], computed: int, settings: "IPCV"
) -> int:
    """FLOPs of a block that computes the kept tokens alone, and attends to all."""
    if settings.stabilizer == "states":
        return _block(shape, queries, keys, computed)
    kept = sum(queries)
    each = 1 if settings.blend == "mean" else 2  # a sum, or a product and a sum
    means = each * (computed - kept) * min(settings.neighbors, kept) * 2 * shape.width  # of keys and of values
    return _block(shape, queries, keys, kept) + means
