"""FLOPs and key-value cache of one answer, in closed form from the model's configuration: nothing is run.

A multiply and an add count as two. Counted are all matrix products, as `torch.utils.flop_counter` counts them:
attention is the full square of queries and keys, also where a causal kernel skips half of it, and grouped-query
attention computes every query head. Not counted are the model's element-wise operations (norms, activations,
rotations, residual sums) and table look-ups. The work that compression adds is counted whole, element-wise operations
included, so that the savings are never overstated; comparisons (sorting, top-k) and moving data are no FLOPs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ipcv.compressor import IPCV
from ipcv.llm import Dart, V2Drop
from ipcv.pruning import LanguagePruner
from ipcv.selection import SHARES, round_sizes
from ipcv.tokens import kept_count
from ipcv.tome import ToMe


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """A vision encoder's sizes, as far as its FLOPs depend on them."""

    blocks: int
    width: int
    heads: int
    mlp_width: int
    patch_values: int  # pixel values in one patch
    merge: int  # patches that become one visual token
    out_width: int  # of a visual token

    @classmethod
    def of(cls, config: Any) -> "VisionShape":
        """The sizes in a `vision_config` of Qwen2-VL."""
        return cls(
            blocks=config.depth,
            width=config.embed_dim,
            heads=config.num_heads,
            mlp_width=int(config.embed_dim * config.mlp_ratio),
            patch_values=config.in_channels * config.temporal_patch_size * config.patch_size**2,
            merge=config.spatial_merge_size**2,
            out_width=config.hidden_size,
        )


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A language model's sizes, as far as its FLOPs depend on them."""

    layers: int
    width: int
    query_width: int  # query heads × head size
    key_width: int  # key heads × head size: less than `query_width` with grouped-query attention
    heads: int  # query heads
    mlp_width: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> "TextShape":
        """The sizes in a `text_config` of Qwen2-VL."""
        head = config.hidden_size // config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            query_width=config.num_attention_heads * head,
            key_width=config.num_key_value_heads * head,
            heads=config.num_attention_heads,
            mlp_width=config.intermediate_size,
            vocabulary=config.vocab_size,
        )


def encoder_flops(
    shape: VisionShape, frames: Sequence[int], compressor: IPCV | None = None, kept: Sequence[int] = ()
) -> int:
    """FLOPs of one pass of the vision encoder, merger included.

    `frames` are the patches of each frame (temporal patch), all of the same pass. `kept` are the tokens of each frame
    that the shrunken blocks computed, as `with compressor(model) as kept` collects them for the pass. Attention is
    within frames, so what a pass costs depends on how the kept tokens are spread. Nothing is compressed with
    `compressor=None` or `keep=1`; `kept` is then not read. Raises `ValueError` if `kept` is not what `compressor` keeps
    of `frames`.
    """
    tokens = sum(frames)
    merged_width = shape.width * shape.merge
    ends = _linear(tokens, shape.patch_values, shape.width)
    ends += _linear(tokens // shape.merge, merged_width, merged_width + shape.out_width)
    if compressor is None or compressor.keep == 1:
        return ends + shape.blocks * _block(shape, frames, tokens)
    compressor.check_depth(shape.blocks)
    count = sum(kept) if compressor.quality else kept_count(tokens, compressor.keep)
    if sum(kept) != count:
        raise ValueError(f"kept={sum(kept)} tokens, but keep={compressor.keep} of {tokens} keeps {count}")
    stable = compressor.stable(shape.blocks)
    alone = [most for most in kept if most]
    return (
        ends
        + compressor.layer * _block(shape, frames, tokens)
        + stable * _later_block(shape, kept, frames)
        + (shape.blocks - compressor.layer - stable) * _later_block(shape, alone, alone)
        + split_flops(shape.width, tokens, count, compressor)
        + (stable + 1) * restore_flops(shape.width, tokens, count, compressor)
    )


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
    total = encoder_flops(shape, frames) - shape.blocks * _block(shape, frames, sum(frames))  # what is no block
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
    likeness = _linear(tokens - tokens // 2, head, tokens // 2)
    sizes = merged
    means = (2 * tokens + tokens - merged) * shape.width  # weighted, summed, divided
    return keys + likeness + sizes + means


def prefill_flops(shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None = None) -> int:
    """FLOPs of the language model's pass over a prompt of `length` tokens, `visual` of them visual.

    The vocabulary is scored for the last position only (`logits_to_keep=1`).
    """
    passes = (_layer(shape, tokens, tokens) for tokens in _lengths(shape, length, visual, pruner))
    return sum(passes) + _linear(1, shape.width, shape.vocabulary) + choice_flops(shape, length, visual, pruner)


def decode_flops(
    shape: TextShape, length: int, visual: int, new_tokens: int, pruner: LanguagePruner | None = None
) -> int:
    """FLOPs of generating `new_tokens` after the prefill of such a prompt, with the key-value cache.

    `new_tokens` counts every token chosen, an end token too. The first comes from the prefill and the last is not fed
    back, so these are `new_tokens - 1` passes of one token each, and 0 for a single token. Pass `i` (from 1) attends
    to the prompt's tokens that its layer holds and to `i` new ones.
    """
    steps = max(0, new_tokens - 1)
    fixed = shape.layers * _layer(shape, 1, 0) + _linear(1, shape.width, shape.vocabulary)
    keys = sum(steps * held + steps * (steps + 1) // 2 for held in _lengths(shape, length, visual, pruner))
    return steps * fixed + _attention(shape.query_width, keys)


def choice_flops(shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None) -> int:
    """FLOPs that `pruner` adds to a prefill to choose tokens. DART is taken to find all its text pivots."""
    if pruner is None or not pruner.prunes or not visual:
        return 0
    if isinstance(pruner, V2Drop):
        return 3 * sum((visual, *pruner.counts(visual)[:-1])) * shape.width  # difference, square, sum
    if isinstance(pruner, Dart):
        pivots = min(pruner.PIVOTS, visual) + min(pruner.PIVOTS, length - visual)
        norms = 2 * length * shape.key_width  # magnitude, sum
        unit = 3 * length * shape.width  # square, sum, division
        return norms + unit + 2 * pivots * visual * shape.width
    softmax = 6 * shape.heads * length  # scale, subtract, exponential, sum, division; mean over heads
    return 2 * length * shape.query_width + softmax


def cache_tokens(shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None = None) -> int:
    """Keys (and as many values) in the key-value cache, summed over layers, after `length` tokens.

    `length` may include tokens generated since: all layers hold those.
    """
    return sum(_lengths(shape, length, visual, pruner))


def cache_share(
    shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None = None, left_out: int = 0
) -> float:
    """Share of the unpruned model's key-value cache that is held; arguments as in `cache_tokens`.

    `left_out` are the visual tokens that it would hold besides those of the prompt.
    """
    return cache_tokens(shape, length, visual, pruner) / cache_tokens(shape, length + left_out, visual + left_out)


def _lengths(shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None) -> list[int]:
    """How many of a prompt's tokens each layer computes and holds."""
    lengths = [length] * shape.layers
    if pruner is not None and pruner.prunes:
        for layer, count in zip(pruner.steps(shape.layers), pruner.counts(visual), strict=True):
            lengths[layer:] = [length - visual + count] * (shape.layers - layer)
    return lengths


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def _attention(width: int, pairs: int) -> int:
    """Scores and weighted values of `pairs` of a query and a key; `width` is that of all query heads."""
    return 4 * pairs * width


def _block(shape: VisionShape, frames: Sequence[int], mlp_tokens: int) -> int:
    """One vision block: attention within `frames`, feed-forward part over `mlp_tokens`."""
    projections = _linear(sum(frames), shape.width, 4 * shape.width)  # queries, keys, values, output
    attention = _attention(shape.width, sum(frame**2 for frame in frames))
    return projections + attention + _linear(mlp_tokens, shape.width, 2 * shape.mlp_width)


def _later_block(shape: VisionShape, queries: Sequence[int], keys: Sequence[int]) -> int:
    """One block that computes `queries` tokens of each segment, which attend to `keys` tokens of it.

    All segments attend in one kernel call, padded to the longest of each: padding is counted as work.
    """
    projections = _linear(sum(queries) + sum(keys), shape.width, 2 * shape.width)  # queries, output; keys, values
    attention = _attention(shape.width, len(queries) * max(queries) * max(keys))
    return projections + attention + _linear(sum(queries), shape.width, 2 * shape.mlp_width)


def _layer(shape: TextShape, tokens: int, keys: int) -> int:
    """One decoder layer over `tokens`, each attending to `keys`; its feed-forward part is gated."""
    outputs = 2 * shape.query_width + 2 * shape.key_width + 3 * shape.mlp_width
    return _linear(tokens, shape.width, outputs) + _attention(shape.query_width, tokens * keys)
