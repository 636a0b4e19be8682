"""Qwen3.5 written naively: token by token, each layer with its keys or with its state."""

from dataclasses import dataclass
from typing import Any

import oracle_families
import torch
from oracle import Row, rms_norm, rotate
from oracle_families import silu
from torch import Tensor


class Encoder(oracle_families.Qwen3Encoder):
    """A Qwen3-VL's without taps."""

    def tap(self, _: Tensor, __: int) -> list[Tensor]:
        return []


@dataclass
class State:
    """What a layer with linear attention knows of all tokens that it has seen."""

    before: list[Tensor]  # the last of them, as they were projected
    heads: Tensor  # [heads, key size, value size]


class Language(oracle_families.Qwen3Language):
    """Most layers have a state in place of keys; attention goes through gates; a part of each head is rotated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.states: dict[int, State] = {}

    def get(self, name: str) -> Tensor:
        weight = super().get(name)
        is_norm = name == "norm.weight" or name.endswith(("layernorm.weight", "q_norm.weight", "k_norm.weight"))
        return 1 + weight if is_norm else weight

    def heads(self, x: Tensor, attention: str, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        both = (self.get(f"{attention}.q_proj.weight") @ x).view(heads, 2, -1)
        key, value = ((self.get(f"{attention}.{name}_proj.weight") @ x).view(groups, -1) for name in "kv")
        norms = (self.get(f"{attention}.{name}_norm.weight") for name in "qk")
        query, key = (
            rms_norm(x, norm, self.config.rms_norm_eps) for x, norm in zip((both[:, 0], key), norms, strict=True)
        )
        return query, key, value

    def passed(self, mixed: Tensor, x: Tensor, attention: str) -> Tensor:
        both = (self.get(f"{attention}.q_proj.weight") @ x).view(self.config.num_attention_heads, 2, -1)
        return mixed * torch.sigmoid(both[:, 1].flatten())

    def turn(self, heads: Tensor, angles: Tensor) -> Tensor:
        turning = 2 * len(angles)
        return torch.cat([rotate(heads[:, :turning], angles), heads[:, turning:]], dim=-1)

    def attend(self, x: Tensor, row: Row, layer: int) -> Tensor:
        if self.config.layer_types[layer] == "full_attention":
            return super().attend(x, row, layer)
        return self.remember(x, layer)

    def remember(self, x: Tensor, layer: int) -> Tensor:
        """The token changes the layer's state, and reads it."""
        module, config = f"layers.{layer}.linear_attn", self.config
        heads, groups = config.linear_num_value_heads, config.linear_num_key_heads
        keys, values = config.linear_key_head_dim, config.linear_value_head_dim
        if layer not in self.states:
            self.states[layer] = State([], torch.zeros(heads, keys, values, dtype=torch.float64))
        state = self.states[layer]
        query, key, value = self.convolved(x, module, state).split([groups * keys, groups * keys, heads * values])
        query, key, value = query.view(groups, keys), key.view(groups, keys), value.view(heads, values)
        strength = torch.sigmoid(self.get(f"{module}.in_proj_b.weight") @ x)
        change = self.get(f"{module}.in_proj_a.weight") @ x + self.get(f"{module}.dt_bias")
        left = torch.exp(-torch.exp(self.get(f"{module}.A_log")) * torch.log(1 + torch.exp(change)))
        gate, given = (self.get(f"{module}.in_proj_z.weight") @ x).view(heads, values), []
        for head in range(heads):
            q, k = (each[head // (heads // groups)] for each in (query, key))
            q, k = (each / (each.square().sum() + 1e-6).sqrt() for each in (q, k))
            faded = state.heads[head] * left[head]
            wrong = value[head] - k @ faded
            state.heads[head] = faded + torch.outer(k, strength[head] * wrong)
            read = q / keys**0.5 @ state.heads[head]
            given.append(rms_norm(read, self.get(f"{module}.norm.weight"), config.rms_norm_eps) * silu(gate[head]))
        return self.get(f"{module}.out_proj.weight") @ torch.cat(given)

    def convolved(self, x: Tensor, module: str, state: State) -> Tensor:
        """A weighted sum of what the last tokens have projected, channel by channel."""
        weights = self.get(f"{module}.conv1d.weight")[:, 0]
        state.before = [*state.before, self.get(f"{module}.in_proj_qkv.weight") @ x][-weights.shape[1] :]
        last = zip(reversed(state.before), weights.T.flip(0), strict=False)
        return silu(sum(projected * weight for projected, weight in last))


class MoeLanguage(Language):
    """A router chooses some of many MLPs for each token; one more, behind a gate, is for all."""

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        chances = (self.get(f"{mlp}.gate.weight") @ x).softmax(0)
        best = sorted(range(len(chances)), key=lambda i: -float(chances[i]))[: self.config.num_experts_per_tok]
        shared = torch.sigmoid(self.get(f"{mlp}.shared_expert_gate.weight") @ x)
        result: Any = shared * super().mlp(x, f"{mlp}.shared_expert")
        for expert in best:
            gate, up = (self.get(f"{mlp}.experts.gate_up_proj")[expert] @ x).chunk(2)
            out = self.get(f"{mlp}.experts.down_proj")[expert] @ (silu(gate) * up)
            result = result + out * chances[expert] / sum(chances[i] for i in best)
        return result
