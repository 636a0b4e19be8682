"""The GLM-4.xV families written naively: what they do otherwise than a Qwen2-VL, straight from their descriptions."""

import math
from typing import Any

import oracle
import torch
import torch.nn.functional as F
from oracle import rms_norm
from oracle_families import silu
from torch import Tensor


def cubic(distance: float) -> float:
    """How much an entry counts at this distance, by Keys' cubic with slope -0.75."""
    x = abs(distance)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


class Encoder(oracle.Encoder):
    """Patches are normed, get positions drawn to the frame's size, and merge by a convolution behind the blocks."""

    def __init__(self, model: Any, grids: Any) -> None:
        super().__init__(model, grids)
        self.sizes = [(rows, columns) for frames, rows, columns in grids for _ in range(frames * rows * columns)]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.get(f"{name}.weight").T

    def norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, self.get(f"{name}.weight"), self.config.rms_norm_eps)

    def mlp(self, x: Tensor, block: int) -> Tensor:
        return self.gated(self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp")

    def gated(self, x: Tensor, name: str) -> Tensor:
        gate, up = (self.linear(x, f"{name}.{part}_proj") for part in ("gate", "up"))
        return self.linear(silu(gate) * up, f"{name}.down_proj")

    def embed(self, patches: Tensor) -> Tensor:
        x = self.norm(super().embed(patches) + self.get("patch_embed.proj.bias"), "post_conv_layernorm")
        side = self.config.image_size // self.config.patch_size
        table = self.get("embeddings.position_embedding.weight").view(side, side, -1)
        return x + torch.stack(
            [self.drawn(table, *(
                (at + 0.5) * side / size - 0.5 for at, size in zip(place, sizes, strict=True)
            )) for place, sizes in zip(self.places, self.sizes, strict=True)]
        )  # fmt: skip

    def drawn(self, table: Tensor, row: float, column: float) -> Tensor:
        """The sixteen entries around a place, weighted; beyond the edge those at the edge count again."""
        last, (above, left) = len(table) - 1, (math.floor(row) - 1, math.floor(column) - 1)
        return sum(
            table[min(max(r, 0), last), min(max(c, 0), last)] * cubic(row - r) * cubic(column - c)
            for r in range(above, above + 4)
            for c in range(left, left + 4)
        )

    def last(self, tokens: Tensor) -> Tensor:
        squares = self.norm(tokens, "post_layernorm").view(len(tokens) // 4, 2, 2, -1)
        return torch.einsum("nrcd,odrc->no", squares, self.get("downsample.weight")) + self.get("downsample.bias")

    def merge(self, tokens: Tensor) -> Tensor:
        x = self.linear(self.last(tokens), "merger.proj")
        norm = (self.get(f"merger.post_projection_norm.{name}") for name in ("weight", "bias"))
        return self.gated(F.gelu(oracle.layer_norm(x, *norm, eps=1e-5)), "merger")


class Language(oracle.LanguageModel):
    """Neighbouring values of a head's first half turn together; outputs are normed before they are added."""

    def turn(self, heads: Tensor, angles: Tensor) -> Tensor:
        turned = heads.clone()
        for i, angle in enumerate(angles):
            first, second = heads[:, 2 * i], heads[:, 2 * i + 1]
            turned[:, 2 * i] = first * angle.cos() - second * angle.sin()
            turned[:, 2 * i + 1] = second * angle.cos() + first * angle.sin()
        return turned

    def before_sum(self, x: Tensor, norm: str) -> Tensor:
        return rms_norm(x, self.get(norm), self.config.rms_norm_eps)

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        gate, up = (self.get(f"{mlp}.gate_up_proj.weight") @ x).chunk(2)
        return self.get(f"{mlp}.down_proj.weight") @ (silu(gate) * up)


class MoeLanguage(oracle.LanguageModel):
    """A head's first half turns; a router chooses some of many MLPs for each token, besides those for all."""

    def turn(self, heads: Tensor, angles: Tensor) -> Tensor:
        turned, rest = heads.split(2 * len(angles), dim=-1)
        return torch.cat([oracle.rotate(turned, angles), rest], dim=-1)

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        if f"model.language_model.{mlp}.gate.weight" not in self.weights:
            return super().mlp(x, mlp)
        scores = torch.sigmoid(self.get(f"{mlp}.gate.weight") @ x)
        wanted = scores + self.get(f"{mlp}.gate.e_score_correction_bias")
        best = sorted(range(len(scores)), key=lambda i: -float(wanted[i]))[: self.config.num_experts_per_tok]
        result = super().mlp(x, f"{mlp}.shared_experts")
        for expert in best:
            gate, up = (self.get(f"{mlp}.experts.gate_up_proj")[expert] @ x).chunk(2)
            out = self.get(f"{mlp}.experts.down_proj")[expert] @ (silu(gate) * up)
            result += out * scores[expert] / sum(scores[i] for i in best) * self.config.routed_scaling_factor
        return result
