"""FLOPs and key-value cache of a language model, in closed form from its sizes: nothing is run.

What counts, and what does not, stands in `ipcv.shapes`.
"""

from ipcv.llm import Dart, V2Drop
from ipcv.prefill import CHUNK
from ipcv.pruning import LanguagePruner
from ipcv.shapes import TextShape, attention, linear


def prefill_flops(shape: TextShape, length: int, visual: int, pruner: LanguagePruner | None = None) -> int:
    """FLOPs of the language model's pass over a prompt of `length` tokens, `visual` of them visual.

    The vocabulary is scored for the last position only (`logits_to_keep=1`).
    """
    lengths = _lengths(shape, length, visual, pruner)
    passes = (_layer(shape, index, tokens, _pairs(tokens, shape.window(index))) for index, tokens in enumerate(lengths))
    return sum(passes) + linear(1, shape.width, shape.vocabulary) + choice_flops(shape, length, visual, pruner)


def decode_flops(
    shape: TextShape, length: int, visual: int, new_tokens: int, pruner: LanguagePruner | None = None
) -> int:
    """FLOPs of generating `new_tokens` after the prefill of such a prompt, with the key-value cache.

    `new_tokens` counts every token chosen, an end token too. The first comes from the prefill and the last is not fed
    back, so these are `new_tokens - 1` passes of one token each, and 0 for a single token. Pass `i` (from 1) attends
    to the prompt's tokens that its layer holds and to `i` new ones, and in a layer with a window to no more than that.
    """
    steps = max(0, new_tokens - 1)
    fixed = sum(_layer(shape, index, 1, 0) for index in range(shape.layers)) + linear(1, shape.width, shape.vocabulary)
    lengths = _lengths(shape, length, visual, pruner)
    keys = sum(_keys(held, steps, shape.window(index)) for index, held in enumerate(lengths))
    return steps * fixed + attention(shape.query_width, keys)


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

    `length` may include tokens generated since: all layers hold those. A layer with a window holds one less than that.
    """
    lengths = _lengths(shape, length, visual, pruner)
    return sum(min(held, window - 1) if (window := shape.window(index)) else held for index, held in enumerate(lengths))


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


def _pairs(tokens: int, window: int) -> int:
    """Pairs of a query and a key in a layer's pass over a prompt.

    All are computed, masked ones too: with a window, those of every chunk (`ipcv.reach`, which does not cut pictures,
    so that its chunks may be a little smaller) and of the keys that the cache then holds.
    """
    if not window:
        return tokens**2
    chunks = [(start, min(CHUNK, tokens - start)) for start in range(0, tokens, CHUNK)]
    return sum(rows * (min(start, window - 1) + rows) for start, rows in chunks)


def _keys(held: int, steps: int, window: int) -> int:
    """Keys in a layer that `steps` tokens, one after the other, attend to behind `held` of the prompt."""
    if not window:
        return steps * held + steps * (steps + 1) // 2
    return sum(min(held + step, window) for step in range(1, steps + 1))


def _layer(shape: TextShape, index: int, tokens: int, pairs: int) -> int:
    """One decoder layer over `tokens`, with so many `pairs` of one of them and a key that it attends to."""
    outputs = 2 * shape.query_width + 2 * shape.key_width + shape.feed_forward(index)
    return linear(tokens, shape.width, outputs) + attention(shape.query_width, pairs)
