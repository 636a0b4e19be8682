"""The private and unstable names of transformers and torch that `ipcv` touches; no other module names them.

A new version of a library that renames one breaks this file alone, and `tests/architecture/test_internals.py` says
which name it was. Heavy libraries are imported inside the functions, so that this module costs nothing to import.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from sys import modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import Cache, PreTrainedModel

    from ipcv.media.frames import MediaKind

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")  # of a configuration: which kernel attends
DEEPSTACK = "deepstack_visual_embeds"  # the decoder's keyword for the embeddings that DeepStack adds


def layer_cache(named: dict[str, Any]) -> Any:
    """The key-value cache among a decoder layer's keyword arguments: `cache`, until transformers 5.23 another name."""
    return named["cache" if "cache" in named else "past_key_values"]


def cache_argument(model: PreTrainedModel, cache: Cache) -> dict[str, Cache]:
    """`cache` as a keyword argument of `model`, under the name that the installed transformers has for it."""
    takes = inspect.signature(type(model).forward).parameters
    return {"cache" if "cache" in takes else "past_key_values": cache}


def encoder_outputs(outputs: dict[MediaKind, Any]) -> dict[str, Any]:
    """The keyword argument by which a model takes encoder outputs, by media kind, in place of pixels."""
    return {"mm_encoder_outputs": outputs}


def encoder_output(tokens: Any, deepstack: list[Any] | None = None) -> Any:
    """Visual tokens in the form of an encoder's own output, with DeepStack's features where the family has them.

    From transformers 5.24 on this has to be a `ModelOutput`, which the models convert to a tuple.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    output: Any = BaseModelOutputWithPooling(pooler_output=tokens)
    if deepstack is not None:
        output.deepstack_features = deepstack
    return output


def holds_window(layer: Any) -> bool:
    """Whether one layer of a cache holds no more than a window of tokens."""
    return bool(layer.is_sliding)


def hold_beyond_window(layer: Any) -> None:
    """Let a sliding layer of a cache keep all keys of a pass, until `cut_to_window`."""
    layer.activate_past_recording()


def cut_to_window(layer: Any) -> None:
    """Cut a sliding layer of a cache to its window, as it was before `hold_beyond_window`."""
    layer.crop(0)
    layer.record_past = False


def linear_states(layer: Any) -> tuple[Tensor, Tensor]:
    """The convolution's and the recurrent state `[batch, ...]` in a cache layer of linear attention."""
    return layer.conv_states[0], layer.recurrent_states[0]


def store_linear_states(cache: Any, index: int, convolved: Tensor, recurrent: Tensor) -> None:
    """Put both states of linear attention into layer `index` of an empty cache."""
    cache.update_conv_state(convolved, index, conv_kernel_size=convolved.shape[-1])
    cache.update_recurrent_state(recurrent, index)


def rope_index(model: PreTrainedModel, ids: Tensor, types: Tensor, **grids: Any) -> Tensor:
    """Position ids `[3, 1, length]` as transformers computes them for M-RoPE."""
    owner: Any = model.model
    positions: Tensor = owner.get_rope_index(ids, mm_token_type_ids=types, **grids)[0]
    return positions


def rotary_function(attention: nn.Module, *, vision: bool = False) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function by which the modeling file of `attention` rotates queries and keys."""
    name = "apply_rotary_pos_emb_vision" if vision else "apply_rotary_pos_emb"
    return getattr(modules[type(attention).__module__], name)


def attention_kernel(config: Any) -> str:
    """The name of the attention kernel in use: "eager", "sdpa", one with "flash" in it."""
    return str(config._attn_implementation)


def kernel_function(config: Any) -> Callable[..., tuple[Tensor, Any]]:
    """The function behind `attention_kernel`, for one that transformers has registered (not "eager")."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS[attention_kernel(config)]


def biased_kernel_function(attention: Any) -> Callable[..., tuple[Tensor, Any]]:
    """An attention function that takes a bias on the logits: eager where the module uses it, else torch's."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_kernel(attention.config) == "eager":
        return modules[type(attention).__module__].eager_attention_forward
    return sdpa_attention_forward


def uses_flash_attention(config: Any) -> bool:
    """Whether a model with `config` runs one of the flash-attention packages."""
    from transformers.utils.generic import is_flash_attention_requested

    return bool(is_flash_attention_requested(config))


def torch_runs_flash(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether torch's own flash attention runs on `[1, heads, n, c]`, without mask, dropout or a causal triangle."""
    from torch.backends.cuda import SDPAParams, can_use_flash_attention

    return bool(can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, False, False)))


def packed_attention(*inputs: Any, scale: float) -> Tensor:
    """torch's attention over packed rows: heads, bounds and longest segments. From torch 2.11 on it takes a scale."""
    from torch.nn.attention.varlen import varlen_attn

    mixed: Any = varlen_attn(*inputs, scale=scale)
    return mixed


def hooks_of(module: nn.Module) -> Iterable[Callable[..., Any]]:
    """All forward hooks and pre-hooks that `module` carries."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
