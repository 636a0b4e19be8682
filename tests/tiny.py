"""Tiny random models of real families, and inputs for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Dinov2Config,
    Dinov2Model,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from ipcv.architecture.visual import VisualSpan
from ipcv.models.hub import find_folder

IMAGE, VIDEO, START, END = 95, 96, 97, 98  # the tiny vocabulary's special tokens; text is 0 to 89
CHANNELS, FRAMES, PATCH = 3, 2, 4  # of one patch
SPECIAL = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
Special = dict[str, int] | None  # other numbers of these tokens


def qwen2_vl(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen2VLForConditionalGeneration:
    """A random Qwen2-VL in float32 with `depth` vision blocks and `layers` decoder layers."""
    config = Qwen2VLConfig(
        vision_config={
            "depth": depth,
            "embed_dim": 32,
            "hidden_size": width,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "temporal_patch_size": FRAMES,
        },
        text_config=text(layers, width, words),
        **special or SPECIAL,
    )
    return drawn(Qwen2VLForConditionalGeneration(config), seed)


def qwen2_5_vl(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen2_5_VLForConditionalGeneration:
    """A random Qwen2.5-VL: windows of 4 × 4 patches, whole frames in blocks 1 and 4."""
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": depth,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": width,
            "num_heads": 2,
            "patch_size": PATCH,
            "temporal_patch_size": FRAMES,
            "window_size": 4 * PATCH,
            "fullatt_block_indexes": [1, 4],
            "tokens_per_second": 2,
        },
        text_config=text(layers, width, words),
        **special or SPECIAL,
    )
    return drawn(Qwen2_5_VLForConditionalGeneration(config), seed)


def qwen3_vl(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen3VLForConditionalGeneration:
    """A random Qwen3-VL: 5 × 5 learnt positions, and DeepStack behind blocks 1, 3 and 5."""
    config = Qwen3VLConfig(
        vision_config={
            "depth": depth,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": width,
            "num_heads": 2,
            "patch_size": PATCH,
            "temporal_patch_size": FRAMES,
            "num_position_embeddings": 25,
            "deepstack_visual_indexes": [1, 3, 5],
        },
        text_config=interleaved(text(layers, width, words)),
        **special or SPECIAL,
    )
    return drawn(Qwen3VLForConditionalGeneration(config), seed)


def qwen3_vl_moe(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> Qwen3VLMoeForConditionalGeneration:
    """The same with two of five experts for each token in all layers but layer 1."""
    experts = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "mlp_only_layers": [1]}
    dense = qwen3_vl(depth, 1, seed, width, words, special).config
    config = Qwen3VLMoeConfig(
        vision_config=dense.vision_config.to_dict() | {"model_type": "qwen3_vl_moe_vision"},
        text_config=interleaved(text(layers, width, words)) | experts,
        **special or SPECIAL,
    )
    return drawn(Qwen3VLMoeForConditionalGeneration(config), seed)


def interleaved(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a language model with heads of a size of their own and axes that take turns."""
    rotary = config["rope_parameters"] | {"mrope_interleaved": True, "mrope_section": [4, 2, 2]}
    return config | {"head_dim": 16, "rope_parameters": rotary}


def internvl(
    depth: int = 6, layers: int = 5, seed: int = 0, width: int = 32, words: int = 100, special: Special = None
) -> InternVLForConditionalGeneration:
    """A random InternVL: frames of 8 × 8 patches, over a Qwen2."""
    language = text(layers, width, words) | {"model_type": "qwen2"}
    del language["rope_parameters"]["mrope_section"]
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": depth,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "image_size": 8 * PATCH,
            "patch_size": PATCH,
            "use_qk_norm": True,
            "attention_bias": True,
        },
        text_config=language,
        image_token_id=(special or SPECIAL)["image_token_id"],
        image_seq_length=16,
    )
    return drawn(InternVLForConditionalGeneration(config), seed)


def text(layers: int, width: int, words: int) -> dict[str, Any]:
    """The language model's configuration."""
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": width * 3 // 2 if width % 64 else 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [width // 16, width // 32, width // 32],
        },
    }


def drawn(model: Any, seed: int) -> Any:
    """The model with unit gain weights, for inference, with no end token."""
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    unit_gain(model, seed)
    return model


def dinov2(depth: int = 5, seed: int = 0) -> Dinov2Model:
    """A random DINOv2 in float32: frames of any size in patches of 4 pixels, with one CLS token each."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=depth, num_attention_heads=2, mlp_ratio=2, image_size=24, patch_size=PATCH
    )
    model = Dinov2Model(config).eval().requires_grad_(False)
    unit_gain(model, seed)
    return model


def unit_gain(model: PreTrainedModel, seed: int) -> None:
    """Redraw the weights so that every layer keeps its input's scale: attention is then far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            if isinstance(module, nn.Embedding):
                parameter.copy_(noise)
            elif parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(noise / 10 + (name == "weight"))


def patches(grids: list[tuple[int, int, int]], seed: int = 0) -> Tensor:
    """Random pixels `[tokens, values]` for visual inputs of these sizes (time, height, width, in patches)."""
    tokens = sum(t * h * w for t, h, w in grids)
    return torch.randn(tokens, CHANNELS * FRAMES * PATCH**2, generator=torch.Generator().manual_seed(seed))


def prompt(*parts: int | tuple[str, int, int, int], seed: int = 0) -> dict[str, Any]:
    """A model's inputs for a prompt of `parts`: so many text tokens, or `("image" or "video", time, height, width)`."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    grids: dict[str, list[tuple[int, int, int]]] = {"image": [], "video": []}
    for part in parts:
        if isinstance(part, int):
            ids += torch.randint(0, 90, (part,), generator=generator).tolist()
        else:
            kind, t, h, w = part
            grids[kind].append((t, h, w))
            ids += [IMAGE if kind == "image" else VIDEO] * (t * h * w // 4)
    input_ids = torch.tensor([ids])
    inputs = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "mm_token_type_ids": (input_ids == IMAGE) + 2 * (input_ids == VIDEO),
    }
    if grids["image"]:
        inputs |= {"pixel_values": patches(grids["image"], seed + 1), "image_grid_thw": torch.tensor(grids["image"])}
    if grids["video"]:
        inputs |= {
            "pixel_values_videos": patches(grids["video"], seed + 2),
            "video_grid_thw": torch.tensor(grids["video"]),
        }
    return inputs


def tokenizer(tokens: Sequence[str], changes: dict[str, str]) -> PreTrainedTokenizerBase:
    """The demo model's tokenizer with more `tokens`, and with `changes` of its chat template."""
    made = AutoTokenizer.from_pretrained(find_folder("demo"))
    made.add_special_tokens({"additional_special_tokens": list(tokens)}, replace_extra_special_tokens=False)
    for old, new in changes.items():
        assert old in made.chat_template
        made.chat_template = made.chat_template.replace(old, new)
    return made


def shown(kind: Any, tokens: int, times: Sequence[float] = (0.0,)) -> VisualSpan:
    """A video or an image of a prompt, a temporal patch for each of `times`, of so many visual tokens in all."""
    return VisualSpan(kind=kind, grid=(len(times), 1, 1), times=tuple(times), tokens=tokens)
