"""FLOPs and key-value cache of a language model, in closed form from its sizes: nothing is run.

What counts, and what does not, stands in `ipcv.architecture.shapes`.
"""

from ipcv.architecture.shapes import CHUNK, LinearShape, TextShape, attention, linear
from ipcv.compression.pruners.pruner import Pruner

BLOCK = 64  # tokens of a prompt that linear attention works through at a time


def prefill_flops(shape: TextShape, length: int, visual: int, pruner: Pruner | None = None) -> int:
    """FLOPs of the language model's pass over a prompt of `length` tokens, `visual` of them visual.

    The vocabulary is scored for the last position only (`logits_to_keep=1`).
    """
    lengths = _lengths(shape, length, visual, pruner)
    passes = (_layer(shape, index, tokens, _pairs(tokens, shape.window(index))) for index, tokens in enumerate(lengths))
    return sum(passes) + linear(1, shape.width, shape.vocabulary) + choice_flops(shape, length, visual, pruner)


def decode_flops(shape: TextShape, length: int, visual: int, new_tokens: int, pruner: Pruner | None = None) -> int:
    """FLOPs of generating `new_tokens` after the prefill of such a prompt, with the key-value cache.

    `new_tokens` counts every token chosen, an end token too. The first comes from the prefill and the last is not fed
    back, so these are `new_tokens - 1` passes of one token each, and 0 for a single token. Pass `i` (from 1) attends
    to the prompt's tokens that its layer holds and to `i` new ones, and in a layer with a window to no more than that.
    """
    steps = max(0, new_tokens - 1)
    fixed = sum(_layer(shape, index, 1, 0) for index in range(shape.layers)) + linear(1, shape.width, shape.vocabulary)
    lengths = _lengths(shape, length, visual, pruner)
    held = [(index, count) for index, count in enumerate(lengths) if index not in shape.linear_layers]
    keys = sum(_keys(count, steps, shape.window(index)) for index, count in held)
    return steps * fixed + attention(shape.query_width, keys)


def choice_flops(shape: TextShape, length: int, visual: int, pruner: Pruner | None) -> int:
    """FLOPs that `pruner` adds to a prefill to choose tokens."""
    return pruner.flops(shape, length, visual) if pruner is not None and pruner.prunes and visual else 0


def cache_tokens(shape: TextShape, length: int, visual: int, pruner: Pruner | None = None) -> int:
    """Keys (and as many values) in the key-value cache, summed over the layers that have keys, after `length` tokens.

    `length` may include tokens generated since: all these layers hold those. A layer with a window holds one less than
    that.
    """
    return sum(_held(shape, length, visual, pruner))


def cache_bytes(shape: TextShape, length: int, visual: int, pruner: Pruner | None = None, width: int = 2) -> int:
    """Bytes of the cache, the states of linear attention included, in numbers of `width` bytes."""
    states = len(shape.linear_layers) * shape.linear.state(width) if shape.linear else 0
    return 2 * shape.key_width * width * cache_tokens(shape, length, visual, pruner) + states


def cache_share(
    shape: TextShape,
    length: int,
    visual: int,
    pruner: Pruner | None = None,
    left_out: int = 0,
    width: int = 2,
) -> float:
    """Share of the unpruned model's key-value cache that is held, in bytes; arguments as in `cache_bytes`.

    `left_out` are the visual tokens that it would hold besides those of the prompt. The states of linear attention,
    which nothing makes smaller, are a part of both.
    """
    held = cache_bytes(shape, length, visual, pruner, width)
    return held / cache_bytes(shape, length + left_out, visual + left_out, width=width)


def _lengths(shape: TextShape, length: int, visual: int, pruner: Pruner | None) -> list[int]:
    """How many of a prompt's tokens each layer computes and holds."""
    lengths = [length] * shape.layers
    if pruner is not None and pruner.prunes:
        for layer, count in zip(pruner.steps(shape.layers, shape.linear_layers), pruner.counts(visual), strict=True):
            lengths[layer:] = [length - visual + count] * (shape.layers - layer)
    return lengths


def _pairs(tokens: int, window: int) -> int:
    """Pairs of a query and a key in a layer's pass over a prompt.

    All are computed, masked ones too: with a window, those of every chunk (`windows.pieces` cuts no pictures, so
    that its chunks may be a little smaller) and of the keys that the cache then holds.
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


def _held(shape: TextShape, length: int, visual: int, pruner: Pruner | None) -> list[int]:
    """How many of a prompt's tokens each layer that has keys holds."""
    lengths = enumerate(_lengths(shape, length, visual, pruner))
    with_keys = [(index, tokens) for index, tokens in lengths if index not in shape.linear_layers]
    return [min(tokens, (shape.window(index) or tokens + 1) - 1) for index, tokens in with_keys]


def _layer(shape: TextShape, index: int, tokens: int, pairs: int) -> int:
    """One decoder layer over `tokens`, with so many `pairs` of one of them and a key, if it has any."""
    if shape.linear and index in shape.linear_layers:
        part = shape.linear
        outputs = part.convolved + 2 * part.values + 2 * part.heads  # what is mixed; gates, output; strengths, decays
        mixing = delta_flops(part, tokens)
    else:
        outputs = (3 if shape.gated else 2) * shape.query_width + 2 * shape.key_width
        mixing = attention(shape.query_width, pairs)
    return linear(tokens, shape.width, outputs + shape.feed_forward(index)) + mixing


def delta_flops(shape: LinearShape, tokens: int) -> int:
    """FLOPs of a layer's linear attention (gated delta rule) over `tokens`, projections apart.

    A prompt goes through in blocks of 64 tokens, the last one padded, as in transformers' own code: products within
    the block, two triangular systems, and three products with the state. A single token meets the state three times:
    it is read, changed and read again. There the code has no matrix products, but these are what they amount to. The
    convolution's outputs at the ends, which are computed and left out, are counted.
    """
    ends = shape.kernel - 1 if tokens > 1 else 1
    convolution = 2 * (tokens + ends) * shape.convolved * shape.kernel
    product = 2 * shape.key_size * shape.value_size  # of one token with the state
    if tokens == 1:
        return convolution + 3 * shape.heads * product
    within = BLOCK**2 * (4 * shape.key_size + 2 * shape.value_size)
    solved = BLOCK**2 * (shape.key_size + shape.value_size)
    return convolution + -(-tokens // BLOCK) * shape.heads * (within + solved + 3 * BLOCK * product)
