"""The private names of transformers and torch: each exists in the versions that it is said to exist in."""

import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from torch.backends import cuda
from transformers import Cache, DynamicCache, Qwen2VLForConditionalGeneration
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionLayer
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen3_5
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3_vl
from transformers.utils import generic

import ipcv
import ipcv_cli
from ipcv.architecture import internals


def takes(function: Callable[..., object], name: str) -> bool:
    return name in inspect.signature(function).parameters


DECODER_LAYERS = [qwen2_vl.Qwen2VLDecoderLayer, qwen3_vl.Qwen3VLTextDecoderLayer, qwen3_5.Qwen3_5DecoderLayer]
SLIDING = DynamicSlidingWindowLayer(sliding_window=4)
LINEAR = LinearAttentionLayer()

# name: (its library, the first version that has it, the first one without it, whether the installed one has it);
# None: it is there in every version that pyproject.toml admits
NAMES = {
    "cache": ("transformers", "5.24", None, all(takes(layer.forward, "cache") for layer in DECODER_LAYERS)),
    "past_key_values": (
        "transformers",
        None,
        "5.24",
        any(takes(layer.forward, "past_key_values") for layer in DECODER_LAYERS),
    ),
    "mm_encoder_outputs": (
        "transformers",
        None,
        None,
        takes(Qwen2VLForConditionalGeneration.forward, "mm_encoder_outputs"),
    ),
    "deepstack_visual_embeds": (
        "transformers",
        None,
        None,
        takes(qwen3_vl.Qwen3VLTextModel.forward, "deepstack_visual_embeds"),
    ),
    "get_rope_index": ("transformers", None, None, hasattr(qwen2_vl.Qwen2VLModel, "get_rope_index")),
    "mm_token_type_ids": (
        "transformers",
        None,
        None,
        takes(qwen2_vl.Qwen2VLModel.get_rope_index, "mm_token_type_ids"),
    ),
    "apply_rotary_pos_emb": ("transformers", None, None, hasattr(qwen3_vl, "apply_rotary_pos_emb")),
    "apply_rotary_pos_emb_vision": ("transformers", None, None, hasattr(qwen2_vl, "apply_rotary_pos_emb_vision")),
    "eager_attention_forward": ("transformers", None, None, hasattr(qwen2_vl, "eager_attention_forward")),
    "sdpa_attention_forward": ("transformers", None, None, hasattr(sdpa_attention, "sdpa_attention_forward")),
    "is_flash_attention_requested": ("transformers", None, None, hasattr(generic, "is_flash_attention_requested")),
    "ALL_ATTENTION_FUNCTIONS": ("transformers", None, None, "sdpa" in ALL_ATTENTION_FUNCTIONS),
    "_attn_implementation": (
        "transformers",
        None,
        None,
        hasattr(qwen2_vl.Qwen2VLConfig(), "_attn_implementation"),
    ),
    "is_sliding": ("transformers", None, None, SLIDING.is_sliding),
    "activate_past_recording": ("transformers", None, None, hasattr(SLIDING, "activate_past_recording")),
    "record_past": ("transformers", None, None, hasattr(SLIDING, "record_past")),
    "crop": ("transformers", None, None, takes(SLIDING.crop, "tokens_to_remove")),
    "conv_states": ("transformers", None, None, hasattr(LINEAR, "conv_states")),
    "recurrent_states": ("transformers", None, None, hasattr(LINEAR, "recurrent_states")),
    "update_conv_state": ("transformers", None, None, hasattr(Cache, "update_conv_state")),
    "update_recurrent_state": ("transformers", None, None, hasattr(Cache, "update_recurrent_state")),
    "_forward_hooks": ("torch", None, None, hasattr(torch.nn.Identity(), "_forward_hooks")),
    "_forward_pre_hooks": ("torch", None, None, hasattr(torch.nn.Identity(), "_forward_pre_hooks")),
    "varlen_attn": ("torch", "2.10", None, find_spec("torch.nn.attention.varlen") is not None),
    "SDPAParams": ("torch", None, None, hasattr(cuda, "SDPAParams")),
    "can_use_flash_attention": ("torch", None, None, hasattr(cuda, "can_use_flash_attention")),
}
PLAIN = {"cache", "crop"}  # words that our own code uses too
PRIVATE = re.compile(r"\b(?:" + "|".join(sorted(set(NAMES) - PLAIN)) + r")\b|\.crop\(0\)|modules\[type\(")
SOURCES = [path for package in (ipcv, ipcv_cli) for path in Path(package.__path__[0]).rglob("*.py")]


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_exists_in_the_versions_that_are_said_to_have_it(name: str) -> None:
    library, since, until, present = NAMES[name]
    installed = Version(version(library))
    after = since is None or installed >= Version(since)
    before = until is None or installed < Version(until)
    assert present == (after and before), f"{library} {installed}"


def test_each_private_name_is_in_the_table_because_internals_touches_it() -> None:
    text = Path(internals.__file__).read_text()
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", text)] == []


def test_no_other_module_touches_a_private_name() -> None:
    found = {
        f"{path.name}: {match[0]}"
        for path in SOURCES
        if path != Path(internals.__file__)
        for match in PRIVATE.finditer(path.read_text())
    }
    assert found == set()


def test_a_cache_is_passed_under_the_name_that_the_model_takes() -> None:
    cache = DynamicCache()
    (name,) = internals.cache_argument(Qwen2VLForConditionalGeneration.__new__(Qwen2VLForConditionalGeneration), cache)
    assert takes(Qwen2VLForConditionalGeneration.forward, name)
    assert takes(qwen2_vl.Qwen2VLDecoderLayer.forward, name)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_layers_cache_is_found_under_either_name(name: str) -> None:
    cache = DynamicCache()
    assert internals.layer_cache({"attention_mask": None, name: cache}) is cache


def test_encoder_output_is_what_a_model_can_turn_into_a_tuple() -> None:
    tokens, features = torch.zeros(3, 2), [torch.ones(3, 2)]
    output = internals.encoder_output([tokens], [features])
    assert output.pooler_output == [tokens]
    assert output.deepstack_features == [features]
    assert output.to_tuple() == ([tokens],)
