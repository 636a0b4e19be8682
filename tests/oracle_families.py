"""Other families written naively: what they do otherwise than a Qwen2-VL, straight from their descriptions."""

from typing import Any

import oracle
import torch
import torch.nn.functional as F
from oracle import Place, rms_norm
from torch import Tensor


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Qwen25Encoder(oracle.Encoder):
    """Most blocks attend within windows, and tokens come window by window; root mean square norms, gated MLP."""

    def __init__(self, model: Any, grids: Any) -> None:
        super().__init__(model, grids)
        side = self.config.window_size // self.config.patch_size
        corner = [(frame, row // side, column // side) for frame, (row, column) in self.with_frames()]
        order = sorted(set(corner))
        self.windows = [order.index(each) for each in corner]
        self.stream = sorted(range(len(self.windows)), key=lambda token: self.windows[token])

    def with_frames(self) -> list[tuple[int, Place]]:
        return list(zip(self.frames, self.places, strict=True))

    def parts(self, block: int) -> list[int]:
        return self.frames if block in self.config.fullatt_block_indexes else self.windows

    def norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, self.get(f"{name}.weight"), 1e-6)

    def mlp(self, x: Tensor, block: int) -> Tensor:
        x, mlp = self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp"
        gated = silu(self.linear(x, f"{mlp}.gate_proj")) * self.linear(x, f"{mlp}.up_proj")
        return self.linear(gated, f"{mlp}.down_proj")

    def lengths(self, tokens: list[int]) -> list[int]:
        windows = [self.windows[token] for token in tokens]
        return [windows.count(window) for window in sorted(set(self.windows))]


class Qwen3Encoder(oracle.Encoder):
    """Learnt positions on a square, drawn to the frame's size; other names; taps behind some blocks."""

    def __init__(self, model: Any, grids: Any) -> None:
        super().__init__(model, grids)
        self.sizes = [(rows, columns) for frames, rows, columns in grids for _ in range(frames * rows * columns)]

    def embed(self, patches: Tensor) -> Tensor:
        x = super().embed(patches) + self.get("patch_embed.proj.bias")
        side = int(self.config.num_position_embeddings**0.5)
        table = self.get("pos_embed.weight").view(side, side, -1)
        return x + torch.stack(
            [self.between(table, *(
                at * (side - 1) / max(1, size - 1) for at, size in zip(place, sizes, strict=True)
            )) for place, sizes in zip(self.places, self.sizes, strict=True)]
        )  # fmt: skip

    def between(self, table: Tensor, row: float, column: float) -> Tensor:
        """The mean of the four entries around a place, weighted by how near they are."""
        return sum(
            table[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
            for r in range(len(table))
            for c in range(len(table))
            if abs(row - r) < 1 and abs(column - c) < 1
        )

    def mlp(self, x: Tensor, block: int) -> Tensor:
        x = self.linear(self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.linear_fc1")
        return self.linear(F.gelu(x, approximate="tanh"), f"blocks.{block}.mlp.linear_fc2")

    def merge(self, tokens: Tensor) -> Tensor:
        x = self.norm(tokens, "merger.norm").view(len(tokens) // 4, -1)
        return self.linear(F.gelu(self.linear(x, "merger.linear_fc1")), "merger.linear_fc2")

    def tap(self, tokens: Tensor, block: int) -> list[Tensor]:
        if block not in self.config.deepstack_visual_indexes:
            return []
        merger = f"deepstack_merger_list.{self.config.deepstack_visual_indexes.index(block)}"
        x = self.norm(tokens.view(len(tokens) // 4, -1), f"{merger}.norm")
        return [self.linear(F.gelu(self.linear(x, f"{merger}.linear_fc1")), f"{merger}.linear_fc2")]


class InternVLEncoder(oracle.Dinov2):
    """Each frame by itself behind a class token; queries and keys are normed; squares of four become one token."""

    def __init__(self, model: Any, grids: Any) -> None:
        ((frames, rows, columns),) = grids
        super().__init__(model.model.vision_tower, frames, rows, columns)
        self.weights = oracle.weights_of(model)
        self.grid = (frames, rows, columns)

    def get(self, name: str) -> Tensor:
        return self.weights[f"model.{name}"]

    def embed(self, patches: Tensor) -> Tensor:
        rows, columns = self.grid[1:]
        side, result = patches.shape[-1] // columns, []
        weight, bias = (
            self.get(f"vision_tower.embeddings.patch_embeddings.projection.{name}") for name in ("weight", "bias")
        )
        places = self.get("vision_tower.embeddings.position_embeddings")[0]
        for frame in patches.double():
            result.append(self.get("vision_tower.embeddings.cls_token")[0, 0] + places[0])
            for row in range(rows):
                for column in range(columns):
                    pixels = frame[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
                    result.append((weight * pixels).sum((1, 2, 3)) + bias + places[1 + row * columns + column])
        return torch.stack(result)

    def attention(self, x: Tensor, block: int, tokens: list[int]) -> Tensor:
        heads, layer = self.config.num_attention_heads, f"vision_tower.encoder.layer.{block}"
        x = self.norm(x, f"{layer}.layernorm_before")
        query, key, value = (self.linear(x, f"{layer}.attention.{name}_proj") for name in "qkv")
        query, key = (
            rms_norm(each, self.get(f"{layer}.attention.{name}_norm.weight"), 1e-6)
            for each, name in ((query, "q"), (key, "k"))
        )
        query, key, value = (each.view(len(tokens), heads, -1) for each in (query, key, value))
        rows = []
        for i, token in enumerate(tokens):
            seen = [j for j, other in enumerate(tokens) if self.frames[other] == self.frames[token]]
            logits = torch.einsum("hc,shc->sh", query[i], key[seen]) / query.shape[-1] ** 0.5
            rows.append(torch.einsum("sh,shc->hc", logits.softmax(0), value[seen]).flatten())
        return self.linear(torch.stack(rows), f"{layer}.attention.projection_layer") * self.get(f"{layer}.lambda_1")

    def mlp(self, x: Tensor, block: int) -> Tensor:
        layer = f"vision_tower.encoder.layer.{block}"
        x = self.linear(self.norm(x, f"{layer}.layernorm_after"), f"{layer}.mlp.fc1")
        return self.linear(F.gelu(x), f"{layer}.mlp.fc2") * self.get(f"{layer}.lambda_2")

    def merge(self, tokens: Tensor) -> Tensor:
        frames, rows, columns = self.grid
        patches = tokens.view(frames, 1 + rows * columns, -1)[:, 1:].view(frames, rows, columns, -1)
        squares = torch.stack([
            torch.cat([frame[row + down, column + right] for down in (0, 1) for right in (0, 1)])
            for frame in patches for row in range(0, rows, 2) for column in range(0, columns, 2)
        ])  # fmt: skip
        projector = "multi_modal_projector"
        x = oracle.layer_norm(squares, *(self.get(f"{projector}.layer_norm.{n}") for n in ("weight", "bias")), eps=1e-5)
        return self.linear(F.gelu(self.linear(x, f"{projector}.linear_1")), f"{projector}.linear_2")


class InternVLLanguage(oracle.LanguageModel):
    """Places have one axis."""

    def angles(self, place: Place) -> Tensor:
        half = self.config.hidden_size // self.config.num_attention_heads // 2
        theta = self.config.rope_parameters["rope_theta"]
        return torch.tensor([place[0] * theta ** (-i / half) for i in range(half)], dtype=torch.float64)


class Qwen3Language(oracle.LanguageModel):
    """Queries and keys are normed; axes take turns; `taps` are added to visual tokens behind the first layers."""

    taps: Tensor  # [t, n, d] float64

    def heads(self, x: Tensor, attention: str, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (self.get(f"{attention}.{name}_proj.weight") @ x for name in "qkv")
        query, key = query.view(heads, -1), key.view(groups, -1)
        norms = (self.get(f"{attention}.{name}_norm.weight") for name in "qk")
        query, key = (rms_norm(x, norm, self.config.rms_norm_eps) for x, norm in zip((query, key), norms, strict=True))
        return query, key, value.view(groups, -1)

    def angles(self, place: Place) -> Tensor:
        time, rows, columns = self.config.rope_parameters["mrope_section"]
        half = time + rows + columns
        theta = self.config.rope_parameters["rope_theta"]
        axes = [i % 3 if i < 3 * (0, rows, columns)[i % 3] else 0 for i in range(half)]
        return torch.tensor([place[axis] * theta ** (-i / half) for i, axis in enumerate(axes)], dtype=torch.float64)

    def feed(self, states: Tensor, places: Any, visual: Any) -> Tensor:
        if self.length == 0:
            self.visual = [i for i, is_visual in enumerate(visual) if is_visual]
        return super().feed(states, places, visual)

    def behind(self, layer: int, rows: list[oracle.Row]) -> list[oracle.Row]:
        if layer >= len(self.taps):
            return rows
        tap = dict(zip(self.visual, self.taps[layer], strict=True))
        return [
            oracle.Row(row.state + tap.get(row.index, 0), row.place, row.index, row.visual) if row.visual else row
            for row in rows
        ]


class Qwen3MoeLanguage(Qwen3Language):
    """In most layers a router chooses some of many MLPs for each token, and their outputs are weighted."""

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        if f"model.language_model.{mlp}.gate.weight" not in self.weights:
            return super().mlp(x, mlp)
        chances = (self.get(f"{mlp}.gate.weight") @ x).softmax(0)
        best = sorted(range(len(chances)), key=lambda i: -float(chances[i]))[: self.config.num_experts_per_tok]
        result = torch.zeros_like(x)
        for expert in best:
            gate, up = (self.get(f"{mlp}.experts.gate_up_proj")[expert] @ x).chunk(2)
            out = self.get(f"{mlp}.experts.down_proj")[expert] @ (silu(gate) * up)
            result += out * chances[expert] / sum(chances[i] for i in best)
        return result


def places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """Places of words, a video and words, in a Qwen2-VL."""
    return oracle.places(before, ("video", *grid), after)


def timed_places(before: int, grid: Any, times: list[float], words: int, after: int, rate: int = 2) -> list[Place]:
    """The same in a Qwen2.5-VL, where temporal patches that start at `times` are at so many places a second."""
    frames, rows, columns = grid[0], grid[1] // 2, grid[2] // 2
    pace = round((times[-1] - times[0]) / max(1, frames - 1), 3)
    steady = all(abs(time - times[0] - pace * i) * rate < 0.5 for i, time in enumerate(times))
    seconds = [pace * i if steady else time - times[0] for i, time in enumerate(times)]
    result: list[Place] = [(i,) * 3 for i in range(before)]
    result += [
        (before + int(second * rate), before + row, before + column)
        for second in seconds
        for row in range(rows)
        for column in range(columns)
    ]
    start = max(max(place) for place in result) + 1
    return result + [(start + i,) * 3 for i in range(after)]


def framed_places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """The same in a Qwen3-VL, where every temporal patch is a picture of its own, behind some words."""
    frames, rows, columns = grid
    parts: list[Any] = [before]
    for frame in range(frames):
        parts += [("image", 1, rows, columns)] if frame == 0 else [words, ("image", 1, rows, columns)]
    return oracle.places(*parts, after)


def plain_places(before: int, grid: Any, times: list[float], words: int, after: int) -> list[Place]:
    """The same in an InternVL, where visual tokens count like words."""
    frames, rows, columns = grid
    return [(i,) for i in range(before + frames * rows * columns // 4 + (frames - 1) * words + after)]
