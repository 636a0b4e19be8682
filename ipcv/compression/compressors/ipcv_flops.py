"""FLOPs of an encoder pass that IPCV compresses, in closed form, its own work included.

What counts, and what does not, stands in `ipcv.architecture.shapes`. All functions take the `IPCV` settings.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import TYPE_CHECKING

from ipcv.architecture.shapes import VisionShape, attention, linear
from ipcv.compression.compressors.encoder_flops import block_flops, ends_flops
from ipcv.compression.compressors.tensors.selection import SHARES, round_sizes
from ipcv.compression.shares import kept_count

if TYPE_CHECKING:
    from ipcv.compression.compressors.ipcv_compressor import IPCV


def pass_flops(
    shape: VisionShape, frames: Sequence[int], settings: "IPCV", kept: Sequence[int], windows: Sequence[int]
) -> int:
    """FLOPs of one compressed pass; arguments as in `Compressor.flops`.

    Attention is within frames or windows, so what a pass costs depends on how the kept tokens are spread.
    """
    settings.check(shape)
    tokens, head = sum(frames), shape.head * len(frames)
    count = kept_count(tokens - head, settings.keep) if settings.keep else sum(kept) - head
    if sum(kept) - head != count:
        raise ValueError(f"kept={sum(kept)} tokens, but keep={settings.keep} of {tokens} keeps {count + head}")
    stable = settings.layer + settings.stable(shape.blocks)
    read = sum(settings.layer - 1 <= block < shape.blocks - 1 for block in shape.deepstack)
    flops = ends_flops(shape, tokens - head) + split_flops(shape.width, tokens - head, count, settings)
    flops += (stable - settings.layer + 1 + read) * restore_flops(shape.width, tokens, sum(kept), settings)
    of_frames = _of_frames(kept, windows, frames) if shape.window else kept
    for block in range(shape.blocks):
        some, all_ = (kept, windows) if shape.in_windows(block) else (of_frames, frames)
        if block < settings.layer:
            flops += block_flops(shape, all_, tokens)
        elif block < stable:
            flops += _later_block(shape, some, all_)
        else:
            flops += _later_block(shape, some, some)
    return flops


def _of_frames(kept: Sequence[int], windows: Sequence[int], frames: Sequence[int]) -> list[int]:
    """Numbers of kept tokens per frame, from those per window; every frame is made of whole windows."""
    ends, sums = [0, *accumulate(windows)], [0, *accumulate(kept)]
    below = dict(zip(ends, sums, strict=True))  # kept tokens ahead of each window's end
    return [below[end] - below[start] for start, end in pairwise([0, *accumulate(frames)])]


def split_flops(width: int, tokens: int, kept: int, settings: "IPCV") -> int:
    """FLOPs of choosing `kept` of `tokens` and of finding the neighbours of the others, once per pass."""
    dropped = tokens - kept
    flops = 0
    if settings.compares_features:
        flops += 21 * tokens * width  # norm 5, mean of 3 × 3 patches 10, of the frame 1, weighted sum 3, centring 2
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


def _later_block(shape: VisionShape, queries: Sequence[int], keys: Sequence[int]) -> int:
    """FLOPs of a block that computes `queries` tokens of each part, which attend to its `keys`; nothing is padded."""
    projections = linear(sum(queries) + sum(keys), shape.width, 2 * shape.width)  # queries, output; keys, values
    mixing = attention(shape.width, sum(map(mul, queries, keys)))
    return projections + mixing + linear(sum(queries), shape.width, shape.mlp_parts * shape.mlp_width)
