"""FLOPs as torch's own counter has them, with those that it leaves out."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten


@torch.no_grad()
def count(run: Callable[[], Any], also: dict[Any, Any] | None = None) -> FlopCounterMode:
    with FlopCounterMode(display=False, custom_mapping=also) as counter:
        run()
    return counter


def count_pass(model, run, compressor=None) -> tuple[FlopCounterMode, list[int]]:
    """Count a pass of an encoder; also how many tokens each frame kept."""
    with compressor(model) if compressor else nullcontext([]) as passes:
        counter = count(
            run,
            also={
                aten._embedding_bag: rows_added,
                aten._embedding_bag_forward_only: rows_added,
                **FUSED,
                aten.add: biased_logits,
            },
        )
    return counter, [kept for each in passes for kept in each.tolist()]


# what operations cost that the counter leaves out
def rows_added(weight, indices, *more, **__) -> int:
    """A sum, or with weights a product and a sum."""
    is_weighted = len(more) > 4 and more[4] is not None
    return (1 + is_weighted) * math.prod(indices) * weight[-1]


def fused(query, key, value, *_, **__) -> int:
    return sdpa_flop_count(query, key, value)


FUSED = {aten._scaled_dot_product_flash_attention_for_cpu: fused}


def per_input(cost: int) -> Callable[..., int]:
    return lambda shape, *_, **__: cost * math.prod(shape)


def per_output(*_, out_val, **__) -> int:
    return out_val.numel() if out_val.is_floating_point() else 0  # moving places about is no FLOP


per_output._get_raw = True  # the counter then gives it tensors, not shapes


def biased_logits(*_, out_shape, **__) -> int:
    return math.prod(out_shape) if len(out_shape) == 4 else 0


ELEMENTWISE = {
    **dict.fromkeys([aten.sub, aten.add, aten.mul, aten.div, aten.exp], per_output),
    **dict.fromkeys([aten.pow, aten.abs, aten.sum, aten.mean, aten.rsub, aten.minimum], per_input(1)),
    aten.native_layer_norm: per_input(5),
    aten.avg_pool2d: per_input(10),
    aten.var: per_input(4),  # sum, difference, square, sum
    aten.linalg_vector_norm: per_input(2),  # square, sum
    aten.scatter_add: lambda _, __, ___, added, **____: math.prod(added),
    aten._softmax: per_input(4),  # subtract, exponential, sum, division
    aten._embedding_bag: rows_added,
    aten._embedding_bag_forward_only: rows_added,
}


def of_experts(rows: Sequence[int], weights: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of tokens `[n, d]`, each through one of the `weights` `[experts, d, out]`: the counter leaves them out."""
    return 2 * math.prod(rows) * weights[-1]


def solved(rows: Sequence[int], known: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of triangular systems `[..., n, n]` with known sides `[..., n, m]`."""
    return math.prod(rows) * known[-1]


LEFT_OUT = {torch.ops.aten._grouped_mm: of_experts, torch.ops.aten.linalg_solve_triangular: solved}
