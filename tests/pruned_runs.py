"""Prompts through a tiny Qwen2-VL with a pruner: by transformers and by the methods written naively."""

from typing import Any

import oracle
import oracle_rivals
import tiny
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    Qwen2VLForConditionalGeneration,
)

from ipcv import Dart, V2Drop
from ipcv.architecture.positions import next_positions, prompt_positions
from ipcv.compression.pruners.pruner import Pruner

LAYERS = 5
VIDEO, LONG, IMAGE = ("video", 2, 8, 8), ("video", 6, 4, 4), ("image", 1, 6, 8)
MIXED = (4, VIDEO, 3, IMAGE, 2, LONG, 6)
Parts = tuple[Any, ...]


def naive(model: Qwen2VLForConditionalGeneration, pruner: Pruner | None) -> oracle.LanguageModel:
    if isinstance(pruner, V2Drop):
        return oracle_rivals.LanguageModel(model, steps=pruner.steps(LAYERS), shares=pruner.keep)
    if pruner is None:
        return oracle.LanguageModel(model)
    (layer,) = pruner.steps(LAYERS)
    return oracle.LanguageModel(model, layer, (oracle.dart if isinstance(pruner, Dart) else oracle.fastv)(pruner.keep))


def visual_embeddings(model: Qwen2VLForConditionalGeneration, inputs: dict[str, Any]) -> dict[int, list[Tensor]]:
    """The merged tokens of the images and of the videos of a prompt, as the model in its present state makes them."""
    result: dict[int, list[Tensor]] = {tiny.IMAGE: [], tiny.VIDEO: []}
    if "pixel_values" in inputs:
        grid = inputs["image_grid_thw"]
        result[tiny.IMAGE] = [*model.model.visual(inputs["pixel_values"], grid_thw=grid).pooler_output]
    if "pixel_values_videos" in inputs:
        grid = inputs["video_grid_thw"]
        result[tiny.VIDEO] = [*model.model.visual(inputs["pixel_values_videos"], grid_thw=grid).pooler_output]
    return result


def oracle_run(
    model: Qwen2VLForConditionalGeneration, parts: Parts, pruner: Pruner | None, steps: int
) -> tuple[list[Tensor], oracle.LanguageModel]:
    """The last token's logits of the prompt and of `steps` greedy steps behind it."""
    inputs = tiny.prompt(*parts)
    visual = {kind: iter(rows) for kind, rows in visual_embeddings(model, inputs).items()}
    language = naive(model, pruner)
    ids = inputs["input_ids"][0].tolist()
    states = [next(visual[i]).double() if i in visual else language.embed([i])[0] for i in ids]
    logits = [language.feed(torch.stack(states), oracle.places(*parts), [i in visual for i in ids])]
    for step in range(steps):
        place = oracle.places(*parts, step + 1)[-1]
        logits.append(language.feed(language.embed([int(logits[-1].argmax())]), [place], [False]))
    return logits, language


def run(
    model: Qwen2VLForConditionalGeneration, parts: Parts, steps: int = 0, **more: Any
) -> tuple[list[Tensor], DynamicCache]:
    """The same through transformers."""
    inputs = tiny.prompt(*parts) | more
    grids = {name: grid for name, grid in inputs.items() if name.endswith("grid_thw")}
    positions = prompt_positions(model, inputs["input_ids"], inputs["mm_token_type_ids"], **grids)
    cache = DynamicCache(config=model.config.text_config)
    out = model(**inputs, position_ids=positions, past_key_values=cache, use_cache=True)
    logits = [out.logits[0, -1]]
    for step in range(steps):
        token = logits[-1].argmax().view(1, 1)
        out = model(input_ids=token, position_ids=next_positions(positions) + step, past_key_values=cache)
        logits.append(out.logits[0, -1])
    return logits, cache


def lengths(cache: DynamicCache) -> list[int]:
    return [cache.get_seq_length(layer) for layer in range(LAYERS)]
