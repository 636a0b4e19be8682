"""Shared by families (Qwen, GLM) whose encoders take the patches of all frames packed into one row."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.architecture.encoder import Attention, Encoder, Heads
from ipcv.architecture.grids import Grid, to_device
from ipcv.architecture.internals import encoder_output
from ipcv.architecture.shapes import VisionShape
from ipcv.architecture.visual import Visual
from ipcv.families.family import Language


def _project(attention: Any, queries: Tensor, states: Tensor) -> Heads:
    layer, sizes = attention.qkv, (attention.qkv.in_features, 2 * attention.qkv.in_features)
    weights, biases = layer.weight.split(sizes), (None, None) if layer.bias is None else layer.bias.split(sizes)
    query = F.linear(queries, weights[0], biases[0]).unflatten(-1, (attention.num_heads, -1))
    both = F.linear(states, weights[1], biases[1]).unflatten(-1, (2, attention.num_heads, -1))
    return query, both[:, 0], both[:, 1]


CLIP_RANGE = 1 / 0.2686  # of pixels normalised as for CLIP, on the mean of the channels

ATTENTION = Attention(
    module="attn", norm="norm1", project=_project, output=lambda attention, mixed: attention.proj(mixed)
)


def encoder(model: Any, **more: Any) -> Encoder:
    """The encoder of `model`; `more` are fields of `Encoder` that its family sets besides."""
    tower = model.model.visual

    def grids(_: Tensor, grid_thw: Tensor, **__: Any) -> Sequence[Grid]:
        return [(frames, rows, columns) for frames, rows, columns in grid_thw.tolist()]

    def pixels(patches: Tensor, *_: Any, **__: Any) -> Tensor:
        sizes = tower.patch_embed
        return patches.view(len(patches), sizes.in_channels, sizes.temporal_patch_size, *(sizes.patch_size,) * 2)

    return Encoder(
        blocks=tower.blocks,
        attention=ATTENTION,
        patch_embedding=tower,
        embedding=tower.patch_embed.proj,
        grids=grids,
        pixels=pixels,
        parts_videos=True,
        merge=tower.spatial_merge_size,
        **{"pixel_range": CLIP_RANGE, **more},
    )


def shape(vision: Any, **more: Any) -> VisionShape:
    """The encoder's sizes in a `vision_config`; `more` are those that families name differently."""
    return VisionShape(
        blocks=vision.depth,
        heads=vision.num_heads,
        patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        merge=vision.spatial_merge_size**2,
        **more,
    )


def encode(model: Any, patches: Tensor, grid: Grid) -> Visual:
    """One video through the encoder. Its grid goes to the device after other hooks have read it on the host."""
    arrival = model.model.visual.register_forward_pre_hook(_grid_arrives, with_kwargs=True)
    try:
        output = model.get_video_features(patches, video_grid_thw=torch.tensor([grid]))
    finally:
        arrival.remove()
    tokens = output.pooler_output[0]
    deepstack = [each[0] for each in output.get("deepstack_features") or ()]
    return Visual(tokens, torch.stack(deepstack) if deepstack else tokens.new_empty(0, *tokens.shape))


def _grid_arrives(_: Any, args: tuple[Tensor], named: dict[str, Any]) -> tuple[tuple[Tensor], dict[str, Any]]:
    return args, named | {"grid_thw": to_device(named["grid_thw"], args[0].device)}


def as_encoder_output(visual: Visual) -> Any:
    """Wrap `visual` as the model's forward expects encoder output."""
    return encoder_output([visual.tokens], [[each] for each in visual.deepstack])


LANGUAGE = partial(
    Language, encode=encode, as_encoder_output=as_encoder_output, unquantized=("model.visual", "lm_head")
)
