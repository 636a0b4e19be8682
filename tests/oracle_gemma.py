"""Gemma 3 written naively, straight from its description: a SigLIP encoder; windows and pictures in the language."""

from typing import Any

import oracle
import oracle_siglip
import torch
import torch.nn.functional as F
from oracle import Place, Row, Seen, rms_norm, rotate
from torch import Tensor


class Encoder(oracle_siglip.SiglipEncoder):
    """The mean of every square of patches becomes a token."""

    tower = "vision_tower"

    def __init__(self, model: Any, grids: Any) -> None:
        super().__init__(model, grids)
        self.side = round(self.rows / model.config.mm_tokens_per_image**0.5)

    def merge(self, tokens: Tensor) -> Tensor:
        rows, columns = self.rows, self.columns
        normed = self.last(tokens).view(self.count, rows, columns, -1)
        squares = torch.stack([
            frame[row : row + self.side, column : column + self.side].mean((0, 1))
            for frame in normed for row in range(0, rows, self.side) for column in range(0, columns, self.side)
        ])  # fmt: skip
        projector = "multi_modal_projector"
        normed = rms_norm(squares, 1 + self.get(f"{projector}.mm_soft_emb_norm.weight"), self.config.layer_norm_eps)
        return normed @ self.get(f"{projector}.mm_input_projection_weight")

    def last(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens, "vision_tower.post_layernorm")


class LanguageModel(oracle.LanguageModel):
    """Four norms a layer; in some layers a token sees so many positions and no more; pictures see themselves whole."""

    def feed(self, states: Tensor, places: Any, visual: Any) -> Tensor:
        if self.length == 0:
            self.picture: dict[int, int] = {}  # of which picture each visual token is
            for index, is_visual in enumerate(visual):
                if is_visual:
                    follows = index > 0 and visual[index - 1]
                    self.picture[index] = self.picture[index - 1] if follows else index
            self.place = {}
        self.place |= {self.length + i: place[0] for i, place in enumerate(places)}
        return super().feed(states, places, visual)

    def get(self, name: str) -> Tensor:
        return super().get(name) + name.endswith("norm.weight")  # what norms have is added to 1

    def embed(self, ids: list[int]) -> Tensor:
        return super().embed(ids) * self.config.hidden_size**0.5

    def is_sliding(self, layer: int) -> bool:
        return self.config.layer_types[layer] == "sliding_attention"

    def lengths(self) -> list[int]:
        most = self.config.sliding_window - 1
        return [
            min(length, most) if self.is_sliding(layer) else length for layer, length in enumerate(super().lengths())
        ]

    def turns(self, place: Place, layer: int) -> Tensor:
        rotary = self.config.rope_parameters[self.config.layer_types[layer]]
        half = self.config.head_dim // 2
        at = place[0] / rotary.get("factor", 1.0)
        return torch.tensor([at * rotary["rope_theta"] ** (-i / half) for i in range(half)], dtype=torch.float64)

    def all_through(self, rows: list[Row], layer: int) -> list[Row]:
        heads, groups = self.config.num_attention_heads, self.config.num_key_value_heads
        queries = []
        for row in rows:  # keys of all of them before any looks at one
            x = self.normed(row.state, layer, "input_layernorm")
            query, key, value = self.heads(x, f"layers.{layer}.self_attn", heads, groups)
            angles = self.turns(row.place, layer)
            queries.append(rotate(query, angles))
            self.cache[layer].append(Seen(rotate(key, angles), value, row.index))
        keys, values = (torch.stack([getattr(seen, name) for seen in self.cache[layer]]) for name in ("key", "value"))
        mixed = [self.mixed(query, row, layer, keys, values) for query, row in zip(queries, rows, strict=True)]
        return [
            Row(self.finished(row, given, layer), row.place, row.index, row.visual)
            for given, row in zip(mixed, rows, strict=True)
        ]

    def normed(self, x: Tensor, layer: int, name: str) -> Tensor:
        return rms_norm(x, self.get(f"layers.{layer}.{name}.weight"), self.config.rms_norm_eps)

    def heads(self, x: Tensor, attention: str, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (self.get(f"{attention}.{name}_proj.weight") @ x for name in "qkv")
        query, key = (
            rms_norm(each.view(count, -1), self.get(f"{attention}.{name}_norm.weight"), self.config.rms_norm_eps)
            for each, count, name in ((query, heads, "q"), (key, groups, "k"))
        )
        return query, key, value.view(groups, -1)

    def sees(self, row: Row, other: int, layer: int) -> bool:
        if self.is_sliding(layer) and self.place[row.index] - self.place[other] >= self.config.sliding_window:
            return False
        is_own = row.index in self.picture and self.picture.get(other) == self.picture[row.index]
        return other <= row.index or is_own

    def mixed(self, query: Tensor, row: Row, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """What a token's heads take from the tokens that it sees; leaves `attention`, over all in the cache."""
        scale = self.config.query_pre_attn_scalar**-0.5
        seen = [at for at, each in enumerate(self.cache[layer]) if self.sees(row, each.index, layer)]
        attention, mixed = torch.zeros(len(query), len(keys), dtype=torch.float64), []
        for head in range(len(query)):
            group = head * keys.shape[1] // len(query)
            attention[head, seen] = (keys[seen, group] @ query[head] * scale).softmax(0)
            mixed.append(attention[head] @ values[:, group])
        self.attention = attention
        return torch.cat(mixed)

    def finished(self, row: Row, mixed: Tensor, layer: int) -> Tensor:
        prefix = f"layers.{layer}"
        given = self.get(f"{prefix}.self_attn.o_proj.weight") @ mixed
        state = row.state + self.normed(given, layer, "post_attention_layernorm")
        x = self.mlp(self.normed(state, layer, "pre_feedforward_layernorm"), f"{prefix}.mlp")
        return state + self.normed(x, layer, "post_feedforward_layernorm")

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        gate, up = (self.get(f"{mlp}.{name}_proj.weight") @ x for name in ("gate", "up"))
        return self.get(f"{mlp}.down_proj.weight") @ (F.gelu(gate, approximate="tanh") * up)
