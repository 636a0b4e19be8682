"""FLOPs of a vision encoder, in closed form from its sizes and the tokens of a pass: nothing is run.

What counts, and what does not, stands in `ipcv.architecture.shapes`.
"""

from collections.abc import Sequence

from ipcv.architecture.shapes import VisionShape, attention, linear
from ipcv.compression.compressors.compressor import Compressor, PassWork


def encoder_flops(shape: VisionShape, work: PassWork, compressor: Compressor | None = None) -> int:
    """FLOPs of one pass of the vision encoder, merger included.

    Without a `compressor`, or with one that leaves nothing out, everything is computed, whatever `work` says of that.
    Raises `ValueError` if `work` is not what `compressor` leaves.
    """
    if compressor is not None and compressor.compresses:
        return compressor.flops(shape, work)
    tokens = sum(work.frames)
    parts = (work.windows if shape.in_windows(block) else work.frames for block in range(shape.blocks))
    blocks = sum(block_flops(shape, part, tokens) for part in parts)
    return ends_flops(shape, tokens - shape.head * len(work.frames)) + blocks


def ends_flops(shape: VisionShape, patches: int) -> int:
    """FLOPs around the blocks: the patch embedding, and the mergers of the last block and of DeepStack."""
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
    return linear(patches, shape.patch_values, shape.width) + (1 + len(shape.deepstack)) * merger


def block_flops(shape: VisionShape, parts: Sequence[int], mlp_tokens: int) -> int:
    """FLOPs of one block: attention within `parts` (frames, windows), feed-forward part over `mlp_tokens`."""
    projections = linear(sum(parts), shape.width, 4 * shape.width)  # queries, keys, values, output
    mixing = attention(shape.width, sum(part**2 for part in parts))
    return projections + mixing + linear(mlp_tokens, shape.width, shape.mlp_parts * shape.mlp_width)
