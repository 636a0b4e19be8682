"""Which tokens a token attends to where these are not simply all before it: windows, and pictures.

In Gemma's sliding layers a token attends to the last `window` positions only, its own included, and in every layer the
tokens of a picture attend to each other, to later ones too. transformers counts tokens to find out which these are.
Here it goes by positions, which is the same for a whole prompt. Where visual tokens are left out of the prompt or
dropped in the language model, those that stay keep their positions: a window is then the same stretch of the video as
before with fewer tokens in it, and no layer is shown a distance for which it was not trained. A sliding layer's cache
holds the last `window - 1` tokens, counted; those of them that are farther away than the window are masked.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ipcv.architecture.hooks import Override
from ipcv.architecture.internals import attention_kernel
from ipcv.architecture.masks import attention_mask, kernel_mask
from ipcv.architecture.shapes import layer_windows


def pieces(pictures: Tensor, most: int) -> Iterator[slice]:
    """Rows, `most` at a time or fewer, so that no picture is cut; one with more than `most` is a piece by itself.

    `pictures` `[n]` are those of the rows, -1 for text.
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
    """As `prefill.in_chunks`, for a prompt in an empty cache whose attention masks are what `tell` gives.

    Each layer makes the mask of some rows when it computes them. Yields, by layer with a window, the positions of the
    tokens that its cache holds behind the pass.
    """
    kernel = attention_kernel(model.config)
    held: dict[int, Tensor] = {}
    windows = layer_windows(model.config.get_text_config())
    with ExitStack() as stack:
        for index, (layer, window) in enumerate(zip(model.get_decoder().layers, windows, strict=True)):
            note = partial(held.__setitem__, index) if window else None
            forward = partial(_forward, layer.forward, window, chunk, kernel, note)
            stack.callback(Override(layer, forward).remove)
        yield held


def _forward(
    whole: Callable[..., Tensor],
    window: int,
    chunk: int,
    kernel: str,
    note: Callable[[Tensor], None] | None,
    states: Tensor,
    **named: Any,
) -> Tensor:
    """In place of a decoder layer's `forward`, which is `whole`: `states` `[1, length, d]` by pieces of rows."""
    told, output = named["attention_mask"], torch.empty_like(states)
    for rows in pieces(told[1], chunk):
        first = max(0, rows.start - window + 1) if window else 0  # of the keys that are in the cache, or new
        seen = attention_mask(told[:, rows], told[:, first : rows.stop], window)[None, None]
        part = named | {
            "attention_mask": kernel_mask(seen, kernel, states.dtype),
            "position_embeddings": tuple(table[:, rows] for table in named["position_embeddings"]),
            "position_ids": None,  # only read to find packed sequences, and there are none
        }
        output[:, rows] = whole(states[:, rows], **part)
    if note:
        note(told[0, -window + 1 :])
    return output


@contextmanager
def in_windows(model: PreTrainedModel, held: dict[int, Tensor], position: Tensor) -> Iterator[None]:
    """Let one more token, at `position`, attend in each layer with a window to what is within its reach.

    `held` is what `in_pieces` gave, and is brought up to date. Without windows, `held` is empty and nothing happens.
    """
    kernel = attention_kernel(model.config)
    windows = layer_windows(model.config.get_text_config()) if held else ()
    with ExitStack() as stack:
        for index, places in held.items():
            window = windows[index]
            places = torch.cat([places, position.view(1)])
            held[index] = places[-window + 1 :]
            mask = kernel_mask((places > position.view(1) - window)[None, None, None], kernel, model.dtype)
            hook = partial(_show, mask)
            handle = model.get_decoder().layers[index].register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _show(
    mask: Tensor, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs | {"attention_mask": mask, "position_ids": None}


def masks(model: PreTrainedModel, mask: Tensor | None) -> dict[str, Tensor | None]:
    """The same mask for every kind of layer, as a model takes masks that are made already."""
    return dict.fromkeys(model.config.get_text_config().layer_types, mask)
