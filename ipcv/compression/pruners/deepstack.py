"""DeepStack for a pruned prompt: the first decoder layers add encoder features to the visual tokens that are left.

The language model itself would add them by the visual tokens' places in the whole prompt, so from the first pruning
layer on it would hit the wrong rows. Hooks take the features from it and add them by the rows that stay.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ipcv.architecture.internals import DEEPSTACK, layer_cache
from ipcv.compression.pruners.prompt_state import PrunedPrompts


class DeepStack:
    """Hooks that add DeepStack's features behind the first `depth` decoder layers, in place of the model."""

    def __init__(self, model: PreTrainedModel, depth: int, prompts: PrunedPrompts) -> None:
        self.model = model
        self.depth = depth
        self.prompts = prompts
        self.features: Sequence[Tensor] | None  # [n, d] for each of those layers, a row per visual token

    def install(self) -> Iterator[RemovableHandle]:
        """Put the hooks on the model, one handle each; none if tokens are dropped behind these layers only."""
        if self.prompts.steps[0] < self.depth:
            decoder = self.model.get_decoder()
            yield decoder.register_forward_pre_hook(self.take_features, with_kwargs=True)
            for index, layer in enumerate(decoder.layers[: self.depth]):
                yield layer.register_forward_hook(partial(self.add_features, index), with_kwargs=True)

    def take_features(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before the decoder: keep the features, and leave the decoder without them."""
        self.features = kwargs.get(DEEPSTACK)
        return args, kwargs | {DEEPSTACK: None}

    def add_features(
        self, index: int, _: nn.Module, __: tuple[Tensor, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        """Behind layer `index`: add its features to those visual tokens that are left."""
        if self.features is None:
            return output
        is_visual = self.prompts.is_visual
        rows = self.prompts.rows(layer_cache(kwargs), index)
        if rows is None:
            rows = torch.arange(len(is_visual), device=output.device)
        visual = is_visual[rows]
        number = (is_visual.cumsum(0) - 1)[rows[visual]]  # among all visual tokens of the prompt
        return output.index_add(1, visual.nonzero()[:, 0], self.features[index][number].to(output.dtype)[None])
