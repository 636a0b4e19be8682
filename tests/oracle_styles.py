"""Attention of each family in parts, written naively: a token's query, key and value, their rotation, its pixels."""

from typing import Any

import oracle
import oracle_families
import oracle_siglip
import tiny
import torch
from oracle import rms_norm, rotate
from torch import Tensor


class Packed:
    """Qwen and GLM: one matrix for all three; rotary positions; patches of several frames come cut out."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.config = encoder, encoder.config

    def parts(self, block: int) -> list[int]:
        """Of which part each token is: it attends to that one."""
        return self.encoder.parts(block)

    def heads(self, x: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[n, heads, c]`, not rotated."""
        normed = self.encoder.norm(x, f"blocks.{block}.norm1")
        qkv = self.encoder.linear(normed, f"blocks.{block}.attn.qkv").view(len(x), 3, self.config.num_heads, -1)
        return qkv[:, 0], qkv[:, 1], qkv[:, 2]

    def turned(self, heads: Tensor, token: int) -> Tensor:
        """A token's query or key `[heads, c]` at its place."""
        return rotate(heads, self.encoder.angles(self.encoder.places[token]))

    def output(self, mixed: Tensor, block: int) -> Tensor:
        """The sum that attention adds to the stream."""
        return self.encoder.linear(mixed, f"blocks.{block}.attn.proj")

    def pixels(self, given: Tensor, token: int) -> Tensor:
        """A patch's pixels `[channels, frames, side, side]`."""
        side = self.config.patch_size
        return given[token].view(-1, self.config.temporal_patch_size, side, side)


class Framed(Packed):
    """DINOv2: a matrix each; no rotation; patches are in pictures, one after the other in rows."""

    layer, norm, attention = "", "norm1", "attention"
    projection, scaled = "attention.o_proj", "layer_scale1.lambda1"

    def name(self, block: int, part: str) -> str:
        return f"{self.layer}{block}.{part}"

    def parts(self, _: int) -> list[int]:
        return self.encoder.frames

    def heads(self, x: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
        encoder = self.encoder
        x = oracle.layer_norm(x, *(encoder.get(self.name(block, f"{self.norm}.{part}")) for part in ("weight", "bias")))
        query, key, value = (encoder.linear(x, self.name(block, f"{self.attention}.{each}_proj")) for each in "qkv")
        query, key = self.normed(query, block, "q"), self.normed(key, block, "k")
        count = self.config.num_attention_heads
        return query.view(len(x), count, -1), key.view(len(x), count, -1), value.view(len(x), count, -1)

    def normed(self, x: Tensor, _: int, __: str) -> Tensor:
        """Queries or keys behind their norm, if there is one."""
        return x

    def turned(self, heads: Tensor, _: int) -> Tensor:
        return heads

    def output(self, mixed: Tensor, block: int) -> Tensor:
        result = self.encoder.linear(mixed, self.name(block, self.projection))
        return result * self.encoder.get(self.name(block, self.scaled)) if self.scaled else result

    def pixels(self, given: Tensor, token: int) -> Tensor:
        row, column = (at * tiny.PATCH for at in self.encoder.places[token])
        frame = given[self.encoder.frames[token]]
        return frame[:, None, row : row + tiny.PATCH, column : column + tiny.PATCH]


class InternVL(Framed):
    """Queries and keys are normed."""

    layer, norm = "vision_tower.encoder.layer.", "layernorm_before"
    projection, scaled = "attention.projection_layer", "lambda_1"

    def normed(self, x: Tensor, block: int, which: str) -> Tensor:
        return rms_norm(x, self.encoder.get(self.name(block, f"attention.{which}_norm.weight")), 1e-6)


class Siglip(Framed):
    """Other names, and no scale on what attention adds."""

    norm, attention, projection, scaled = "layer_norm1", "self_attn", "self_attn.out_proj", ""

    def name(self, block: int, part: str) -> str:
        return f"{self.encoder.tower}.encoder.layers.{block}.{part}"


class DinoEncoder(oracle.Dinov2):
    """A DINOv2 from its pixels to its last norm; frames of the size that it has learnt positions for."""

    def __init__(self, model: Any, grids: Any) -> None:
        ((frames, rows, columns),) = grids
        super().__init__(model, frames, rows, columns)
        self.columns = columns

    def embed(self, patches: Tensor) -> Tensor:
        weight, bias = (self.weights[f"embeddings.patch_embeddings.projection.{name}"] for name in ("weight", "bias"))
        learnt = self.weights["embeddings.position_embeddings"][0]
        result = []
        for frame, (row, column) in zip(self.frames, self.places, strict=True):
            if row < 0:
                result.append(self.weights["embeddings.cls_token"][0, 0] + learnt[0])
                continue
            top, left = row * tiny.PATCH, column * tiny.PATCH
            pixels = patches[frame, :, top : top + tiny.PATCH, left : left + tiny.PATCH].double()
            result.append((weight * pixels).sum((1, 2, 3)) + bias + learnt[1 + row * self.columns + column])
        return torch.stack(result)

    def last(self, tokens: Tensor) -> Tensor:
        return oracle.layer_norm(tokens, self.weights["layernorm.weight"], self.weights["layernorm.bias"])

    def merge(self, tokens: Tensor) -> Tensor:
        return self.last(tokens)


STYLES = {
    oracle_families.InternVLEncoder: InternVL,
    oracle.Dinov2: Framed,
    oracle_siglip.SiglipEncoder: Siglip,
    oracle.Encoder: Packed,
}


def style_of(encoder: Any) -> Packed:
    """How the family of `encoder` attends."""
    return next(style(encoder) for kind, style in STYLES.items() if isinstance(encoder, kind))
