"""Families with a SigLIP encoder written naively, straight from their descriptions."""

from typing import Any

import oracle
import oracle_families
import torch
import torch.nn.functional as F
from oracle import Place
from torch import Tensor


class SiglipEncoder(oracle.Encoder):
    """Each frame by itself, with a learnt position for each patch; nothing but patches."""

    tower: str  # how the names of its weights begin

    def __init__(self, model: Any, grids: Any) -> None:
        ((self.count, self.rows, self.columns),) = grids
        self.config, self.weights = model.config.vision_config, oracle.weights_of(model)
        self.depth, self.scale = self.config.num_hidden_layers, getattr(model.config, "scale_factor", 1)
        grid = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        self.places = grid * self.count
        self.frames = [frame for frame in range(self.count) for _ in grid]
        self.protected: list[int] = []
        self.stream = list(range(len(self.places)))

    def get(self, name: str) -> Tensor:
        return self.weights[f"model.{name}"]

    def embed(self, patches: Tensor) -> Tensor:
        side, embeddings = self.config.patch_size, f"{self.tower}.embeddings"
        weight, bias = (self.get(f"{embeddings}.patch_embedding.{name}") for name in ("weight", "bias"))
        positions = self.get(f"{embeddings}.position_embedding.weight")
        result = []
        for frame, (row, column) in zip(self.frames, self.places, strict=True):
            top, left = row * side, column * side
            pixels = patches[frame, :, top : top + side, left : left + side].double()
            result.append((weight * pixels).sum((1, 2, 3)) + bias + positions[row * self.columns + column])
        return torch.stack(result)

    def attention(self, x: Tensor, block: int, tokens: list[int]) -> Tensor:
        heads, layer = self.config.num_attention_heads, f"{self.tower}.encoder.layers.{block}"
        x = self.norm(x, f"{layer}.layer_norm1")
        query, key, value = (
            self.linear(x, f"{layer}.self_attn.{name}_proj").view(len(tokens), heads, -1) for name in "qkv"
        )
        rows = []
        for i, token in enumerate(tokens):
            seen = [j for j, other in enumerate(tokens) if self.frames[other] == self.frames[token]]
            logits = torch.einsum("hc,shc->sh", query[i], key[seen]) / query.shape[-1] ** 0.5
            rows.append(torch.einsum("sh,shc->hc", logits.softmax(0), value[seen]).flatten())
        return self.linear(torch.stack(rows), f"{layer}.self_attn.out_proj")

    def mlp(self, x: Tensor, block: int) -> Tensor:
        layer = f"{self.tower}.encoder.layers.{block}"
        x = self.linear(self.norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        return self.linear(F.gelu(x, approximate="tanh"), f"{layer}.mlp.fc2")


class LlavaEncoder(SiglipEncoder):
    """Every patch is projected; then each frame is drawn to half the size, between the nearest four."""

    tower = "vision_tower"

    def merge(self, tokens: Tensor) -> Tensor:
        x = F.gelu(self.linear(tokens, "multi_modal_projector.linear_1"))
        frames = self.linear(x, "multi_modal_projector.linear_2").view(self.count, self.rows, self.columns, -1)
        sides = self.between(self.rows), self.between(self.columns)
        return torch.stack([
            sum(a * b * frame[row, column] for row, a in above.items() for column, b in left.items())
            for frame in frames for above in sides[0] for left in sides[1]
        ])  # fmt: skip

    def between(self, size: int) -> list[dict[int, float]]:
        """For each of half as many places along a side, between which two of `size` it is, and how near to each."""
        half = (size + 1) // 2
        shares = []
        for place in range(half):
            at = (place + 0.5) * size / half - 0.5
            low = int(at)
            shares.append({low: 1 - (at - low)} | ({low + 1: at - low} if low + 1 < size else {}))
        return shares


class LlavaLanguage(oracle_families.InternVLLanguage):
    """What has the id of a video's tokens and is none of them is the newline."""

    def embed(self, ids: list[int]) -> Tensor:
        newline, video = self.weights["model.image_newline"], self.model.config.video_token_id
        words = zip(ids, super().embed(ids), strict=True)
        return torch.stack([newline if token == video else word for token, word in words])


class SmolEncoder(SiglipEncoder):
    """A last norm; squares of patches become one token by one matrix."""

    tower = "vision_model"

    def merge(self, tokens: Tensor) -> Tensor:
        frames = self.norm(tokens, f"{self.tower}.post_layernorm").view(self.count, self.rows, self.columns, -1)
        side, weight = range(self.scale), self.get("connector.modality_projection.proj.weight")
        return torch.stack([
            weight @ torch.cat([frame[row + down, column + right] for down in side for right in side])
            for frame in frames
            for row in range(0, self.rows, self.scale) for column in range(0, self.columns, self.scale)
        ])  # fmt: skip


class SmolLanguage(oracle_families.InternVLLanguage):
    """A Llama: projections without biases."""

    def get(self, name: str) -> Tensor:
        return self.weights[f"model.text_model.{name}"]

    def heads(self, x: Tensor, attention: str, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (self.get(f"{attention}.{name}_proj.weight") @ x for name in "qkv")
        return query.view(heads, -1), key.view(groups, -1), value.view(groups, -1)


def llava_places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """Places of words, a video and words: visual tokens count like words, and a newline follows them."""
    frames, rows, columns = grid
    return [(i,) for i in range(before + frames * ((rows + 1) // 2) * ((columns + 1) // 2) + 1 + after)]


def smol_places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """The same where a frame of three times three squares has nine tokens, and words between frames."""
    frames, rows, columns = grid
    return [(i,) for i in range(before + frames * rows * columns // 9 + (frames - 1) * words + after)]
