"""Windows and pictures: decoder layers in which a token does not simply attend to all tokens before it.

In Gemma's sliding layers a token attends to the last `window` positions only, its own included, and in every layer the
tokens of a picture attend to each other, to later ones too. transformers finds these by counting tokens. Here positions
count, which makes no difference for a whole prompt. Where visual tokens are left out of the prompt or dropped in the
language model, those that stay keep their positions: a window is then as long a stretch of the video as before, with
fewer tokens in it, and no layer meets a distance for which it was not trained. A sliding layer's cache holds the last
`window - 1` tokens, counted; those that are farther away than the window are masked.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ipcv.architecture.hooks import replace_mask
from ipcv.architecture.internals import attention_kernel
from ipcv.architecture.masks import attention_mask, kernel_mask
from ipcv.architecture.prefill import Plan, by_pieces
from ipcv.architecture.shapes import layer_windows


def pieces(pictures: Tensor, most: int) -> Iterator[slice]:
    """Slices of at most `most` rows that cut no picture; a picture of more rows is a piece by itself.

    `pictures` `[n]` are the picture numbers of the rows, -1 for text.
    """
    within = (pictures[1:] == pictures[:-1]) & (pictures[1:] >= 0)
    cuts = [0, *(1 + (~within).nonzero()[:, 0]).tolist(), len(pictures)]
    start = 0
    while start < len(pictures):
        last = bisect_right(cuts, start + most) - 1
        stop = cuts[last] if cuts[last] > start else cuts[last + 1]
        yield slice(start, stop)
        start = stop


@contextmanager
def in_pieces(model: PreTrainedModel, chunk: int) -> Iterator[dict[int, Tensor]]:
    """Let every decoder layer work through a prompt in an empty cache by pieces of `chunk` tokens that cut no picture.

    The model gets the prompt's token table in place of attention masks; each layer makes the mask of some rows when it
    computes them. Yields, by layer with a window, the positions of the tokens that its cache holds behind the pass.
    """
    kernel = attention_kernel(model.config)
    windows = layer_windows(model.config.get_text_config())
    held: dict[int, Tensor] = {}

    def plan(index: int) -> Plan:
        return partial(_masked_pieces, index, windows[index], chunk, kernel, held)

    with by_pieces(model, plan):
        yield held


def _masked_pieces(
    index: int, window: int, chunk: int, kernel: str, held: dict[int, Tensor], states: Tensor, named: dict[str, Any]
) -> Iterator[tuple[slice, Tensor]]:
    """The pieces for layer `index`; notes in `held` what its cache holds behind them if it has a `window`."""
    table = named["attention_mask"]
    if window:
        held[index] = table[0, -window + 1 :]
    for rows in pieces(table[1], chunk):
        first = max(0, rows.start - window + 1) if window else 0  # of the keys that are in the cache, or new
        seen = attention_mask(table[:, rows], table[:, first : rows.stop], window)
        yield rows, kernel_mask(seen[None], kernel, states.dtype)


@contextmanager
def in_windows(model: PreTrainedModel, held: dict[int, Tensor], position: Tensor) -> Iterator[None]:
    """Let one more token, at `position`, attend in each layer with a window to the tokens within it.

    `held` is the dictionary of `in_pieces`, and is brought up to date. Without windows, `held` is empty and nothing
    happens.
    """
    kernel = attention_kernel(model.config)
    windows = layer_windows(model.config.get_text_config()) if held else ()
    with ExitStack() as stack:
        for index, places in held.items():
            window = windows[index]
            places = torch.cat([places, position.view(1)])
            held[index] = places[-window + 1 :]
            seen = (places > position.view(1) - window)[None, None]
            layer = model.get_decoder().layers[index]
            stack.callback(replace_mask(layer, partial(kernel_mask, seen, kernel, model.dtype)).remove)
        yield


def every_kind(model: PreTrainedModel, mask: Tensor | None) -> dict[str, Tensor | None]:
    """`mask` for every kind of layer, in the form in which a model takes masks that are made already."""
    return dict.fromkeys(model.config.get_text_config().layer_types, mask)
