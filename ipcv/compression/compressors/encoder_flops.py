"""FLOPs of a vision encoder, in closed form from its sizes and the tokens of a pass: nothing is run.

What counts, and what does not, stands in `ipcv.architecture.shapes`.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from ipcv.architecture.shapes import VisionShape, attention, linear
from ipcv.compression.compressors.ipcv_compressor import IPCV
from ipcv.compression.compressors.selection import SHARES, round_sizes
from ipcv.compression.compressors.tome import ToMe
from ipcv.compression.shares import kept_count


def encoder_flops(
    shape: VisionShape,
    frames: Sequence[int],
    compressor: IPCV | None = None,
    kept: Sequence[int] = (),
    windows: Sequence[int] = (),
) -> int:
    """FLOPs of one pass of the vision encoder, merger included.

    `frames` are the tokens of each frame (temporal patch), all of the same pass, and `windows` those of each window,
    which is only read where the encoder has some. `kept` are the tokens of each window, or of each frame where there
    are none, that the shrunken blocks computed, as `with compressor(model) as kept` collects them for the pass.
    Attention is within frames or windows, so what a pass costs depends on how the kept tokens are spread. Nothing is
    compressed with `compressor=None` or `keep=1`; `kept` is then not read. Raises `ValueError` if `kept` is not what
    `compressor` keeps of `frames`.
    """
    tokens, head = sum(frames), shape.head * len(frames)
    if compressor is None or compressor.keep == 1:
        parts = (windows if shape.in_windows(block) else frames for block in range(shape.blocks))
        return ends_flops(shape, tokens - head) + sum(_block(shape, part, tokens) for part in parts)
    compressor.check_depth(shape.blocks)
    count = sum(kept) - head if compressor.quality else kept_count(tokens - head, compressor.keep)
    if sum(kept) - head != count:
        raise ValueError(f"kept={sum(kept)} tokens, but keep={compressor.keep} of {tokens} keeps {count + head}")
    stable = compressor.layer + compressor.stable(shape.blocks)
    taps = sum(compressor.layer - 1 <= tap < shape.blocks - 1 for tap in shape.taps)
    flops = ends_flops(shape, tokens - head) + split_flops(shape.width, tokens - head, count, compressor)
    flops += (stable - compressor.layer + 1 + taps) * restore_flops(shape.width, tokens, sum(kept), compressor)
    of_frames = _of_frames(kept, windows, frames) if shape.window else kept
    for block in range(shape.blocks):
        some, all_ = (kept, windows) if shape.in_windows(block) else (of_frames, frames)
        if block < compressor.layer:
            flops += _block(shape, all_, tokens)
        elif block < stable:
            flops += _later_block(shape, some, all_)
        else:
            alone = [most for most in some if most]
            flops += _later_block(shape, alone, alone)
    return flops


def _of_frames(kept: Sequence[int], windows: Sequence[int], frames: Sequence[int]) -> list[int]:
    """How many of each frame's tokens are kept, from how many of each window's are."""
    ends, sums = [0, *accumulate(windows)], [0, *accumulate(kept)]
    below = dict(zip(ends, sums, strict=True))  # kept tokens ahead of each window's end
    return [below[end] - below[start] for start, end in pairwise([0, *accumulate(frames)])]


def ends_flops(shape: VisionShape, patches: int) -> int:
    """FLOPs of what is no block: patches become tokens, and the last block's and the taps' become visual tokens."""
    merged_width = shape.width * shape.merge
    hidden_width = merged_width if shape.hidden_width is None else shape.hidden_width
    merged = patches // shape.merge
    if shape.pooled:
        merger = linear(merged, shape.width, shape.out_width)
    elif hidden_width:
        merger = linear(merged, merged_width, hidden_width) + linear(merged, hidden_width, shape.out_width)
    else:
        merger = linear(merged, merged_width, shape.out_width)
    merger += linear(merged, shape.out_width, 3 * shape.gated_width)
    return linear(patches, shape.patch_values, shape.width) + (1 + len(shape.taps)) * merger


def split_flops(width: int, tokens: int, kept: int, compressor: IPCV) -> int:
    """FLOPs of choosing `kept` of `tokens` and of finding the neighbours of the others, once per pass."""
    dropped = tokens - kept
    flops = 0
    if compressor.compares_features:
        flops += 21 * tokens * width  # norm 5, mean of those around 10, mean of the frame 1, weighted sum 3, centring 2
    if compressor.select == "change":
        flops += 3 * tokens * width  # difference, square, sum
    if compressor.quality:
        tried = (max(1, int(share * tokens)) for share in SHARES)
        flops += sum(
            _coverage(width, tokens, count) + _compared(width, tokens, count) for count in tried if count <= kept
        )
    elif compressor.select == "coverage":
        flops += _coverage(width, tokens, kept)
    flops += (tokens + kept) * width  # mean of the kept, subtracted from all
    flops += 2 * (kept + dropped) * width + 2 * dropped * kept * width  # norms, distances
    if compressor.blend == "distance":
        flops += 7 * dropped * min(compressor.neighbors, kept)  # difference, division, softmax
    return flops


def _coverage(width: int, tokens: int, kept: int) -> int:
    """FLOPs of choosing `kept` tokens so that they cover all; nothing is compared with those added last."""
    return _compared(width, tokens, sum(round_sizes(kept)[:-1]))


def _compared(width: int, tokens: int, points: int) -> int:
    """FLOPs of the distances of all tokens to some of them: norms, products."""
    return 2 * (tokens + points) * width + 2 * tokens * points * width


def restore_flops(width: int, tokens: int, kept: int, compressor: IPCV) -> int:
    """FLOPs of rebuilding the dropped tokens once: before every stabilised block and after the last block."""
    change = kept * width
    each = 1 if compressor.blend == "mean" else 2  # a sum, or a product and a sum
    mean = each * (tokens - kept) * min(compressor.neighbors, kept) * width
    moved = (tokens - kept) * width
    return change + mean + moved


def tome_flops(shape: VisionShape, frames: Sequence[int], tome: ToMe) -> int:
    """FLOPs of one pass of the vision encoder with merging; `frames` as in `encoder_flops`.

    They depend on nothing else: how many tokens of a frame merge where is settled by its size.
    """
    if tome.keep == 1:
        return encoder_flops(shape, frames)
    total = ends_flops(shape, sum(frames))
    for patches in frames:
        tokens = patches
        for merged in tome.merges(patches, shape.blocks):
            total += _block(shape, [tokens], tokens - merged)
            total += tokens + shape.heads * tokens**2 if tokens < patches else 0  # sizes' logarithms, on the logits
            total += merge_flops(shape, tokens, merged) if merged else 0
            tokens -= merged
    return total


def merge_flops(shape: VisionShape, tokens: int, merged: int) -> int:
    """FLOPs of finding the `merged` of a frame's `tokens` that are most like another one, and of merging them."""
    head = shape.width // shape.heads
    keys = tokens * shape.width + 3 * tokens * head  # mean over heads; square, sum, division
    likeness = linear(tokens - tokens // 2, head, tokens // 2)
    sizes = merged
    means = (2 * tokens + tokens - merged) * shape.width  # weighted, summed, divided
    return keys + likeness + sizes + means


def _block(shape: VisionShape, parts: Sequence[int], mlp_tokens: int) -> int:
    """One vision block: attention within `parts` (frames, windows), feed-forward part over `mlp_tokens`."""
    projections = linear(sum(parts), shape.width, 4 * shape.width)  # queries, keys, values, output
    mixing = attention(shape.width, sum(part**2 for part in parts))
    return projections + mixing + linear(mlp_tokens, shape.width, shape.mlp_parts * shape.mlp_width)


def _later_block(shape: VisionShape, queries: Sequence[int], keys: Sequence[int]) -> int:
    """One block that computes `queries` tokens of each part, which attend to `keys` tokens of it.

    All parts attend in one kernel call, padded to the longest of each: padding is counted as work.
    """
    projections = linear(sum(queries) + sum(keys), shape.width, 2 * shape.width)  # queries, output; keys, values
    mixing = attention(shape.width, len(queries) * max(queries) * max(keys))
    return projections + mixing + linear(sum(queries), shape.width, shape.mlp_parts * shape.mlp_width)
