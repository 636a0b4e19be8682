"""Count the parameters of published checkpoints from the sizes in their configurations: nothing is fetched.

Usage: python examples/count_parameters.py

It prints the lines of `ipcv/models/checkpoints.py`: for a new checkpoint, add its sizes here and its line there. Models
are built on torch's meta device, without their weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PretrainedConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from ipcv.families import find_language
from ipcv.models.checkpoints import Checkpoint


def text(
    width: int, layers: int, heads: int, key_heads: int, mlp: int, vocabulary: int, *, tied: bool = False, **more: Any
) -> dict[str, Any]:
    """The sizes of a language model; `tied`: its embeddings are its head as well."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    } | more


def whole(family: str, vision: dict[str, Any], language: dict[str, Any], **more: Any) -> PretrainedConfig:
    """The configuration of a model of `family`."""
    tied = language["tie_word_embeddings"]
    return CONFIG_MAPPING[family](vision_config=vision, text_config=language, tie_word_embeddings=tied, **more)


def qwen2_vl(*sizes: int, **more: Any) -> PretrainedConfig:
    """Qwen2-VL: one encoder for all sizes."""
    language = text(*sizes, rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24]}, **more)
    return whole("qwen2_vl", {"depth": 32, "embed_dim": 1280, "hidden_size": sizes[0], "num_heads": 16}, language)


def qwen2_5_vl(*sizes: int, vision_mlp: int = 3420, **more: Any) -> PretrainedConfig:
    """Qwen2.5-VL: the encoder's feed-forward part is wider in the large ones."""
    language = text(*sizes, rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24]}, **more)
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": vision_mlp, "num_heads": 16}
    return whole("qwen2_5_vl", vision | {"out_hidden_size": sizes[0]}, language)


def qwen3_vl(*sizes: int, small: bool = False, family: str = "qwen3_vl", **more: Any) -> PretrainedConfig:
    """Qwen3-VL: `small`, 2B and 4B, have a smaller encoder."""
    rope = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]}
    depth, width, mlp = (24, 1024, 4096) if small else (27, 1152, 4304)
    vision = {
        "depth": depth,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_heads": 16,
        "out_hidden_size": sizes[0],
        "num_position_embeddings": 48 * 48,
        "deepstack_visual_indexes": [5, 11, 17] if small else [8, 16, 24],
    }
    return whole(family, vision, text(*sizes, head_dim=128, rope_parameters=rope, **more))


def qwen3_vl_moe(*sizes: int, expert: int) -> PretrainedConfig:
    """Qwen3-VL with 128 experts of a width in every layer."""
    return qwen3_vl(*sizes, family="qwen3_vl_moe", num_experts=128, num_experts_per_tok=8, moe_intermediate_size=expert)


def internvl(*sizes: int, large: bool = False) -> PretrainedConfig:
    """InternVL3: InternViT-300M before the smaller language models, InternViT-6B before the `large` ones."""
    small_vision = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "attention_bias": True,
        "use_qk_norm": False,
        "norm_type": "layer_norm",
    }
    large_vision = {
        "hidden_size": 3200,
        "num_hidden_layers": 45,
        "num_attention_heads": 25,
        "intermediate_size": 12800,
        "attention_bias": False,
        "use_qk_norm": True,
        "norm_type": "rms_norm",
    }
    return whole("internvl", large_vision if large else small_vision, text(*sizes, model_type="qwen2"))


def qwen3_5(
    *sizes: int, values: int, vision: tuple[int, ...], moe: int = 0, expert: int = 0, **more: Any
) -> PretrainedConfig:
    """Qwen3.5: `values` heads of linear attention, `vision` as depth, width, feed-forward width and heads.

    The layer that foresees a second token is in the published files, but transformers does not load it.
    """
    heads = {"head_dim": 256, "linear_num_value_heads": values, "linear_num_key_heads": 16}
    experts = {"num_experts": moe, "moe_intermediate_size": expert, "shared_expert_intermediate_size": expert}
    names = ("depth", "hidden_size", "intermediate_size", "num_heads")
    encoder = dict(zip(names, vision, strict=True)) | {"out_hidden_size": sizes[0], "num_position_embeddings": 48 * 48}
    family = "qwen3_5_moe" if moe else "qwen3_5"
    return whole(family, encoder, text(*sizes, **heads, **(experts if moe else {}), **more))


def siglip(layers: int = 27, **more: Any) -> dict[str, Any]:
    """The SigLIP with 400 million parameters."""
    return {
        "hidden_size": 1152,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "intermediate_size": 4304,
        "patch_size": 14,
    } | more


def gemma3(*sizes: int, head: int = 256) -> PretrainedConfig:
    """Gemma 3, from 4B on."""
    vision = siglip(model_type="siglip_vision_model", image_size=896, vision_use_head=False)
    return whole("gemma3", vision, text(*sizes, 262208, tied=True, head_dim=head))


def glm(family: str, *sizes: int, vision_mlp: int, **more: Any) -> PretrainedConfig:
    """GLM-4.1V and 4.5V."""
    vision = {
        "depth": 24,
        "hidden_size": 1536,
        "num_heads": 12,
        "intermediate_size": vision_mlp,
        "out_hidden_size": sizes[0],
        "image_size": 336,
        "patch_size": 14,
    }
    rope = {"rope_type": "default", "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5}
    return whole(family, vision, text(*sizes, rope_parameters=rope, **more))


def glm4v_moe(*sizes: int, expert: int) -> PretrainedConfig:
    """GLM-4.5V: 128 experts of a width, and one for every token, in all layers but the first."""
    experts = {"n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1}
    more = experts | {"moe_intermediate_size": expert, "head_dim": 128, "attention_bias": True}
    return glm("glm4v_moe", *sizes, vision_mlp=10944, **more)


def llava_onevision(*sizes: int, tied: bool = False) -> PretrainedConfig:
    """LLaVA-OneVision over a Qwen2, whose vocabulary was extended to the next multiple of 64."""
    vision = siglip(26, model_type="siglip_vision_model", image_size=384, vision_use_head=False)
    return whole("llava_onevision", vision, text(*sizes, tied=tied, model_type="qwen2"))


def smolvlm(*sizes: int, large: bool = False) -> PretrainedConfig:
    """SmolVLM2: a smaller encoder in the small ones."""
    base = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 512,
        "patch_size": 16,
    }
    vision = siglip(image_size=384) if large else base
    language = text(*sizes, 49280, model_type="llama", head_dim=64)
    return whole("smolvlm", vision, language, scale_factor=3 if large else 4)


SIZES: dict[str, Callable[[], PretrainedConfig]] = {
    "Qwen/Qwen2-VL-2B-Instruct": lambda: qwen2_vl(1536, 28, 12, 2, 8960, 151936, tied=True),
    "Qwen/Qwen2-VL-7B-Instruct": lambda: qwen2_vl(3584, 28, 28, 4, 18944, 152064),
    "Qwen/Qwen2-VL-72B-Instruct": lambda: qwen2_vl(8192, 80, 64, 8, 29568, 152064),
    "Qwen/Qwen2.5-VL-3B-Instruct": lambda: qwen2_5_vl(2048, 36, 16, 2, 11008, 151936, tied=True),
    "Qwen/Qwen2.5-VL-7B-Instruct": lambda: qwen2_5_vl(3584, 28, 28, 4, 18944, 152064),
    "Qwen/Qwen2.5-VL-32B-Instruct": lambda: qwen2_5_vl(5120, 64, 40, 8, 27648, 152064, vision_mlp=3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": lambda: qwen2_5_vl(8192, 80, 64, 8, 29568, 152064, vision_mlp=3456),
    "Qwen/Qwen3-VL-2B-Instruct": lambda: qwen3_vl(2048, 28, 16, 8, 6144, 151936, tied=True, small=True),
    "Qwen/Qwen3-VL-4B-Instruct": lambda: qwen3_vl(2560, 36, 32, 8, 9728, 151936, tied=True, small=True),
    "Qwen/Qwen3-VL-8B-Instruct": lambda: qwen3_vl(4096, 36, 32, 8, 12288, 151936),
    "Qwen/Qwen3-VL-32B-Instruct": lambda: qwen3_vl(5120, 64, 64, 8, 25600, 151936),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": lambda: qwen3_vl_moe(2048, 48, 32, 4, 6144, 151936, expert=768),
    "Qwen/Qwen3-VL-235B-A22B-Instruct": lambda: qwen3_vl_moe(4096, 94, 64, 4, 12288, 151936, expert=1536),
    "OpenGVLab/InternVL3-1B-hf": lambda: internvl(896, 24, 14, 2, 4864, 151674),
    "OpenGVLab/InternVL3-2B-hf": lambda: internvl(1536, 28, 12, 2, 8960, 151674),
    "OpenGVLab/InternVL3-8B-hf": lambda: internvl(3584, 28, 28, 4, 18944, 151674),
    "OpenGVLab/InternVL3-14B-hf": lambda: internvl(5120, 48, 40, 8, 13824, 151674),
    "OpenGVLab/InternVL3-38B-hf": lambda: internvl(5120, 64, 40, 8, 27648, 151674, large=True),
    "OpenGVLab/InternVL3-78B-hf": lambda: internvl(8192, 80, 64, 8, 29568, 151674, large=True),
    "Qwen/Qwen3.5-0.8B": lambda: qwen3_5(
        1024, 24, 8, 2, 3584, 248320, tied=True, values=16, vision=(12, 768, 3072, 12)
    ),
    "Qwen/Qwen3.5-2B": lambda: qwen3_5(2048, 24, 8, 2, 6144, 248320, tied=True, values=16, vision=(24, 1024, 4096, 16)),
    "Qwen/Qwen3.5-4B": lambda: qwen3_5(
        2560, 32, 16, 4, 9216, 248320, tied=True, values=32, vision=(24, 1024, 4096, 16)
    ),
    "Qwen/Qwen3.5-9B": lambda: qwen3_5(4096, 32, 16, 4, 12288, 248320, values=32, vision=(27, 1152, 4304, 16)),
    "Qwen/Qwen3.5-27B": lambda: qwen3_5(5120, 64, 24, 4, 17408, 248320, values=48, vision=(27, 1152, 4304, 16)),
    "Qwen/Qwen3.5-35B-A3B": lambda: qwen3_5(
        2048, 40, 16, 2, 0, 248320, values=32, vision=(27, 1152, 4304, 16), moe=256, expert=512
    ),
    "Qwen/Qwen3.5-122B-A10B": lambda: qwen3_5(
        3072, 48, 32, 2, 0, 248320, values=64, vision=(27, 1152, 4304, 16), moe=256, expert=1024
    ),
    "Qwen/Qwen3.5-397B-A17B": lambda: qwen3_5(
        4096, 60, 32, 2, 0, 248320, values=64, vision=(27, 1152, 4304, 16), moe=512, expert=1024
    ),
    "zai-org/GLM-4.1V-9B-Thinking": lambda: glm("glm4v", 4096, 40, 32, 2, 13696, 151552, vision_mlp=13696),
    "zai-org/GLM-4.5V": lambda: glm4v_moe(4096, 46, 96, 8, 10944, 151552, expert=1408),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": lambda: llava_onevision(896, 24, 14, 2, 4864, 152000, tied=True),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": lambda: llava_onevision(3584, 28, 28, 4, 18944, 152128),
    "llava-hf/llava-onevision-qwen2-72b-ov-hf": lambda: llava_onevision(8192, 80, 64, 8, 29568, 152128),
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": lambda: smolvlm(576, 30, 9, 3, 1536),
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": lambda: smolvlm(960, 32, 15, 5, 2560),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": lambda: smolvlm(2048, 24, 32, 32, 8192, large=True),
    "google/gemma-3-4b-it": lambda: gemma3(2560, 34, 8, 4, 10240),
    "google/gemma-3-12b-it": lambda: gemma3(3840, 48, 16, 8, 15360),
    "google/gemma-3-27b-it": lambda: gemma3(5376, 62, 32, 16, 21504, head=128),
}


def count(name: str) -> tuple[str, Checkpoint]:
    """The family of a checkpoint, and its parameters: in all, and those that 4 bits are for."""
    config = SIZES[name]()
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return config.model_type, Checkpoint(name, model.num_parameters(), quantised(model))


def quantised(model: nn.Module) -> int:
    """How many weights of `model` are in linear layers that `quant="4bit"` quantises."""
    kept = list(find_language(model.config.model_type).unquantized)
    linear = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return sum(module.weight.numel() for name, module in linear if should_convert_module(name, kept))


if __name__ == "__main__":
    for each in SIZES:
        _, checkpoint = count(each)
        print(f'Checkpoint("{each}", {checkpoint.parameters:_}, {checkpoint.quantised:_}),')
