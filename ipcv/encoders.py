"""Where each model family keeps its vision encoder and its language model: one entry each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from ipcv.errors import ModelError


@dataclass(frozen=True)
class Encoder:
    """A vision encoder, as far as compression needs to know it.

    Its blocks take the packed tokens `[n, d]` first, and `cu_seqlens` and `position_embeddings` by name; each has
    its feed-forward part as `mlp`.
    """

    blocks: Sequence[nn.Module]


ENCODERS: dict[str, Callable[[PreTrainedModel], Encoder]] = {
    "qwen2_vl": lambda m: Encoder(m.model.visual.blocks),
}


def find_encoder(model: PreTrainedModel) -> Encoder:
    """The vision encoder of `model`. Raises `ModelError` for a family that is not supported, naming those that are."""
    family = check_family(model.config.model_type)
    return ENCODERS[family](model)


def check_family(family: str) -> str:
    """`family` (a config's `model_type`) if it is supported, else `ModelError` with the supported ones."""
    if family not in ENCODERS:
        raise ModelError(
            f"model family {family!r} is not supported: its encoder's layout is not known here; "
            f"supported: {', '.join(sorted(ENCODERS))}"
        )
    return family
