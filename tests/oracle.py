"""The method written naively, straight from its description: loops over tokens, float64, nothing shared with `ipcv`.

It computes a transformers Qwen2-VL from its bare weights: the vision encoder with IPCV, the language model with
DART or FastV, and the position rule; and the blocks of a DINOv2 with IPCV.
Tokens are rows of plain Python lists wherever that is not too slow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

Grid = Sequence[int]  # time, height, width in patches
Place = tuple[int, ...]  # a token's position on each axis


def weights_of(model: Qwen2VLForConditionalGeneration) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in model.state_dict().items()}


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair `(i, i + half)` of the last axis by its angle `[half]`."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
    )


# ---------------------------------------------------------------------------------------------- vision encoder


@dataclass
class Compressed:
    """What the compressed encoder gives."""

    tokens: Tensor  # [n, d] behind the last block, restored
    merged: Tensor  # [n / 4, d of the language model]
    keep: list[int]  # the kept tokens
    lengths: list[int]  # kept tokens of each frame
    taps: list[Tensor] = field(default_factory=list)  # [n / 4, d of the language model] each


class Encoder:
    """The vision encoder of `model` on one packed pass over `grids`."""

    def __init__(self, model: Qwen2VLForConditionalGeneration, grids: Sequence[Grid]) -> None:
        self.config = model.config.vision_config
        self.depth = self.config.depth
        self.width = getattr(self.config, "embed_dim", None) or self.config.hidden_size
        self.weights = weights_of(model)
        self.protected: list[int] = []
        self.places: list[Place] = []
        self.frames: list[int] = []
        for t, h, w in grids:
            for _ in range(t):
                frame = self.frames[-1] + 1 if self.frames else 0
                # patches come in 2×2 groups that the merger joins
                for row in range(0, h, 2):
                    for column in range(0, w, 2):
                        self.places += [(row + down, column + right) for down in (0, 1) for right in (0, 1)]
                self.frames += [frame] * (h * w)
        self.stream = list(range(len(self.places)))  # in which order the model has them

    def get(self, name: str) -> Tensor:
        return self.weights[f"model.visual.{name}"]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def parts(self, _: int) -> list[int]:
        """Which part of the tokens each one attends to in a block: its frame."""
        return self.frames

    def angles(self, place: Place) -> Tensor:
        quarter = self.width // self.config.num_heads // 4
        frequencies = torch.tensor([10000.0 ** (-i / quarter) for i in range(quarter)], dtype=torch.float64)
        row, column = place
        return torch.cat([row * frequencies, column * frequencies])

    def attention(self, x: Tensor, block: int, tokens: list[int]) -> Tensor:
        """Attention of the rows of `x`, which are these `tokens`: each sees the rows of its own part only."""
        heads, parts = self.config.num_heads, self.parts(block)
        width = self.width // heads
        qkv = self.linear(self.norm(x, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv")
        qkv = qkv.view(len(tokens), 3, heads, width)
        query = [rotate(qkv[i, 0], self.angles(self.places[token])) for i, token in enumerate(tokens)]
        key = torch.stack([rotate(qkv[i, 1], self.angles(self.places[token])) for i, token in enumerate(tokens)])
        rows = []
        for i, token in enumerate(tokens):
            seen = [j for j, other in enumerate(tokens) if parts[other] == parts[token]]
            mixed = []
            for head in range(heads):
                logits = key[seen, head] @ query[i][head] / width**0.5
                mixed.append(logits.softmax(0) @ qkv[seen, 2, head])
            rows.append(torch.cat(mixed))
        return self.linear(torch.stack(rows), f"blocks.{block}.attn.proj")

    def mlp(self, x: Tensor, block: int) -> Tensor:
        x = self.linear(self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1")
        return self.linear(x * torch.sigmoid(1.702 * x), f"blocks.{block}.mlp.fc2")

    def block(self, x: Tensor, block: int, tokens: list[int]) -> Tensor:
        x = x + self.attention(x, block, tokens)
        return x + self.mlp(x, block)

    def embed(self, patches: Tensor) -> Tensor:
        return patches.double() @ self.get("patch_embed.proj.weight").flatten(1).T

    def merge(self, tokens: Tensor) -> Tensor:
        x = self.norm(tokens, "merger.ln_q").view(len(tokens) // 4, -1)
        return self.linear(torch.nn.functional.gelu(self.linear(x, "merger.mlp.0")), "merger.mlp.2")

    def plain(self, patches: Tensor) -> Compressed:
        tokens = list(range(len(self.places)))
        x, taps = self.embed(patches), []
        for block in range(self.depth):
            x = self.block(x, block, tokens)
            taps += self.tap(x, block)
        return Compressed(x, self.merge(x), tokens, self.lengths(tokens), taps)

    def last(self, tokens: Tensor) -> Tensor:
        """What the model calls its last hidden state, of all tokens behind the last block."""
        return tokens[self.stream]

    def tap(self, _: Tensor, __: int) -> list[Tensor]:
        """What the language model gets of all tokens behind a block, besides the last one's."""
        return []

    def compressed(
        self,
        patches: Tensor,
        keep: float,
        layer: int,
        stabilize: int,
        neighbors: int,
        select: str = "change",
        blend: str = "mean",
    ) -> Compressed:
        everything = list(range(len(self.places)))
        candidates = [token for token in everything if token not in self.protected]
        x, taps = self.embed(patches), []
        for block in range(layer):
            before, x = x, self.block(x, block, everything)
            taps += self.tap(x, block)
        likeness = self.describe(x)
        ranking = self.ranking(select, before, x, likeness, candidates, int(len(candidates) * keep))
        chosen = sorted(ranking[: int(len(candidates) * keep)])
        kept = sorted([*chosen, *self.protected])
        then = {token: x[token] for token in everything}
        compared = then if blend == "mean" else likeness
        shares: dict[int, dict[int, float]] = {}
        for token in sorted(set(candidates) - set(chosen)):
            far = {other: float((compared[token] - compared[other]).square().sum()) for other in chosen}
            near = sorted(chosen, key=lambda other, far=far: far[other])[:neighbors]
            unit = 0.3 * far[near[0]]
            weight = {other: 1.0 if blend == "mean" else math.exp((far[near[0]] - far[other]) / unit) for other in near}
            shares[token] = {other: weight[other] / sum(weight.values()) for other in near}

        def restored(now: Tensor) -> Tensor:
            state = dict(zip(kept, now, strict=True))
            moved = {token: state[token] - then[token] for token in kept}
            for token, share in shares.items():
                state[token] = then[token] + sum(moved[other] * part for other, part in share.items())
            return torch.stack([state[token] for token in everything])

        now = x[kept]
        for block in range(layer, self.depth):
            if block < layer + stabilize:
                full = restored(now)
                now = (full + self.attention(full, block, everything))[kept]
                now = now + self.mlp(now, block)
            else:
                now = self.block(now, block, kept)
            taps += self.tap(restored(now), block)
        full = restored(now)
        return Compressed(full, self.merge(full), kept, self.lengths(kept), taps)

    def ranking(
        self, select: str, before: Tensor, x: Tensor, likeness: dict[int, Tensor], candidates: list[int], count: int
    ) -> list[int]:
        """The candidates, the first to be kept first."""
        if select == "change":
            return sorted(candidates, key=lambda token: -float((x[token] - before[token]).norm()))
        if select == "random":
            order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
            in_stream = [token for token in self.stream if token in candidates]
            return [in_stream[i] for i in order]
        inside: dict[int, int] = {}  # place of each token among those of its frame
        for token, frame in enumerate(self.frames):
            inside[token] = token - self.frames.index(frame)
        even = sorted(
            candidates, key=lambda token: (inside[token] * 2654435769 + self.frames[token] * 1779033703) % 2**32
        )
        if select == "uniform":
            return even
        first = -(-count // 2)
        chosen = even[:first]
        for turn in range(8):
            more = (count - first) * (turn + 1) // 8 - (count - first) * turn // 8
            far = {
                token: min(float((likeness[token] - likeness[other]).square().sum()) for other in chosen)
                for token in candidates
                if token not in chosen
            }
            chosen = chosen + sorted(far, key=lambda token: -far[token])[:more]
        return chosen

    def describe(self, x: Tensor) -> dict[int, Tensor]:
        """What each patch is like: its normed state, the mean of those around, ten times that of its frame."""
        width = x.shape[-1]
        normed = layer_norm(x, torch.ones(width), torch.zeros(width), eps=1e-5)
        described = {}
        for token in range(len(x)):
            if token in self.protected:
                continue
            others = [
                other
                for other in range(len(x))
                if self.frames[other] == self.frames[token] and other not in self.protected
            ]
            around = [
                other
                for other in others
                if max(abs(a - b) for a, b in zip(self.places[other], self.places[token], strict=True)) <= 1
            ]
            described[token] = normed[token] + normed[around].mean(0) + 10 * normed[others].mean(0)
        return described

    def lengths(self, tokens: list[int]) -> list[int]:
        frames = [self.frames[token] for token in tokens]
        return [frames.count(frame) for frame in sorted(set(self.frames))]


class Dinov2(Encoder):
    """The blocks of a DINOv2 on the frames that its embeddings hand them; each has a CLS token ahead."""

    def __init__(self, model: Any, frames: int, rows: int, columns: int) -> None:
        self.config = model.config
        self.depth = model.config.num_hidden_layers
        self.weights = weights_of(model)
        grid = [(row, column) for row in range(rows) for column in range(columns)]
        self.places = [place for _ in range(frames) for place in [(-1, -1), *grid]]
        self.frames = [frame for frame in range(frames) for _ in range(1 + len(grid))]
        self.protected = [token for token, place in enumerate(self.places) if place == (-1, -1)]
        self.stream = list(range(len(self.places)))

    def get(self, name: str) -> Tensor:
        return self.weights[f"encoder.layer.{name}"]

    def attention(self, x: Tensor, block: int, tokens: list[int]) -> Tensor:
        heads = self.config.num_attention_heads
        x = layer_norm(x, self.get(f"{block}.norm1.weight"), self.get(f"{block}.norm1.bias"))
        query, key, value = (
            self.linear(x, f"{block}.attention.{name}_proj").view(len(tokens), heads, -1) for name in "qkv"
        )
        rows = []
        for i, token in enumerate(tokens):
            seen = [j for j, other in enumerate(tokens) if self.frames[other] == self.frames[token]]
            logits = torch.einsum("hc,shc->sh", query[i], key[seen]) / query.shape[-1] ** 0.5
            rows.append(torch.einsum("sh,shc->hc", logits.softmax(0), value[seen]).flatten())
        return self.linear(torch.stack(rows), f"{block}.attention.o_proj") * self.get(f"{block}.layer_scale1.lambda1")

    def mlp(self, x: Tensor, block: int) -> Tensor:
        x = layer_norm(x, self.get(f"{block}.norm2.weight"), self.get(f"{block}.norm2.bias"))
        x = self.linear(torch.nn.functional.gelu(self.linear(x, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        return x * self.get(f"{block}.layer_scale2.lambda1")

    def embed(self, patches: Tensor) -> Tensor:
        return patches.double().flatten(0, 1)

    def merge(self, tokens: Tensor) -> Tensor:
        return tokens


# ---------------------------------------------------------------------------------------------- language model


@dataclass
class Row:
    """One token at the input of a decoder layer."""

    state: Tensor
    place: Place
    index: int  # in the prompt
    visual: bool


@dataclass
class Seen:
    """What one decoder layer knows of one token."""

    key: Tensor  # [key heads, width], rotated
    value: Tensor
    index: int


Pruner = Callable[[list[Row], "LanguageModel", int], set[int]]  # the prompt indices that stay


@dataclass
class LanguageModel:
    """The language model, layer by layer and token by token. `cache[layer]` grows by each token the layer sees."""

    model: Qwen2VLForConditionalGeneration
    layer: int | None = None  # the pruning layer
    pruner: Pruner | None = None
    cache: list[list[Seen]] = field(default_factory=list)
    attention: Tensor | None = None  # [query heads, length] of the last token that went through the last layer run

    def __post_init__(self) -> None:
        self.config = self.model.config.text_config
        self.weights = weights_of(self.model)
        self.cache = [[] for _ in range(self.config.num_hidden_layers)]
        self.length = 0

    def get(self, name: str) -> Tensor:
        return self.weights[f"model.language_model.{name}"]

    def angles(self, place: Place) -> Tensor:
        """The first frequencies turn with time, the next with height, the last with width."""
        sections = self.config.rope_parameters["mrope_section"]
        half = sum(sections)
        axes = [axis for axis, count in enumerate(sections) for _ in range(count)]
        theta = self.config.rope_parameters["rope_theta"]
        return torch.tensor([place[axis] * theta ** (-i / half) for i, axis in enumerate(axes)], dtype=torch.float64)

    def embed(self, ids: list[int]) -> Tensor:
        return self.get("embed_tokens.weight")[ids]

    def feed(self, states: Tensor, places: Sequence[Place], visual: Sequence[bool]) -> Tensor:
        """Run the next tokens through every layer; the last one's logits."""
        rows = [
            Row(state, place, self.length + i, is_visual)
            for i, (state, place, is_visual) in enumerate(zip(states, places, visual, strict=True))
        ]
        is_prompt = self.length == 0
        self.length += len(rows)
        for layer in range(self.config.num_hidden_layers):
            if is_prompt and layer == self.layer and self.pruner and any(row.visual for row in rows):
                stays = self.pruner(rows, self, layer)
                rows = [row for row in rows if row.index in stays]
            rows = self.behind(layer, self.all_through(rows, layer))
        final = rms_norm(rows[-1].state, self.get("norm.weight"), self.config.rms_norm_eps)
        return self.weights["lm_head.weight"] @ final

    def all_through(self, rows: list[Row], layer: int) -> list[Row]:
        """The next tokens through one layer."""
        return [Row(self.through(row, layer), row.place, row.index, row.visual) for row in rows]

    def lengths(self) -> list[int]:
        """How many tokens the cache of each layer holds."""
        return [len(seen) for seen in self.cache]

    def behind(self, _: int, rows: list[Row]) -> list[Row]:
        """What becomes of a layer's output before the next one."""
        return rows

    def through(self, row: Row, layer: int) -> Tensor:
        """One token through one layer."""
        prefix, eps = f"layers.{layer}", self.config.rms_norm_eps
        x = rms_norm(row.state, self.get(f"{prefix}.input_layernorm.weight"), eps)
        attended = self.attend(x, row, layer)
        state = row.state + self.before_sum(attended, f"{prefix}.post_self_attn_layernorm.weight")
        x = rms_norm(state, self.get(f"{prefix}.post_attention_layernorm.weight"), eps)
        return state + self.before_sum(self.mlp(x, f"{prefix}.mlp"), f"{prefix}.post_mlp_layernorm.weight")

    def before_sum(self, x: Tensor, _: str) -> Tensor:
        """What becomes of the output of attention and of the MLP before it is added."""
        return x

    def attend(self, x: Tensor, row: Row, layer: int) -> Tensor:
        """A token's attention: it sees the tokens before it, and itself."""
        heads, groups = self.config.num_attention_heads, self.config.num_key_value_heads
        module = f"layers.{layer}.self_attn"
        query, key, value = self.heads(x, module, heads, groups)
        width, angles = query.shape[-1], self.angles(row.place)
        query = self.turn(query, angles)
        self.cache[layer].append(Seen(self.turn(key, angles), value, row.index))
        keys = torch.stack([seen.key for seen in self.cache[layer]])
        values = torch.stack([seen.value for seen in self.cache[layer]])
        attention, mixed = [], []
        for head in range(heads):
            group = head // (heads // groups)
            attention.append((keys[:, group] @ query[head] / width**0.5).softmax(0))
            mixed.append(attention[-1] @ values[:, group])
        self.attention = torch.stack(attention)
        return self.get(f"{module}.o_proj.weight") @ self.passed(torch.cat(mixed), x, module)

    def turn(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Queries or keys at their place."""
        return rotate(heads, angles)

    def passed(self, mixed: Tensor, _: Tensor, __: str) -> Tensor:
        """What of the heads' outputs is projected."""
        return mixed

    def heads(self, x: Tensor, attention: str, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of a token, a row each head, before they are rotated."""
        query, key, value = (
            self.get(f"{attention}.{name}.weight") @ x + self.get(f"{attention}.{name}.bias")
            for name in ("q_proj", "k_proj", "v_proj")
        )
        return query.view(heads, -1), key.view(groups, -1), value.view(groups, -1)

    def mlp(self, x: Tensor, mlp: str) -> Tensor:
        gate, up = (self.get(f"{mlp}.{name}_proj.weight") @ x for name in ("gate", "up"))
        return self.get(f"{mlp}.down_proj.weight") @ (gate * torch.sigmoid(gate) * up)

    def kept(self, layer: int) -> list[int]:
        return [seen.index for seen in self.cache[layer]]


def dart(keep: float) -> Pruner:
    """Four visual and four text pivots by the L1 norm of their keys; each takes the visual tokens least like it."""

    def choose(rows: list[Row], language: LanguageModel, layer: int) -> set[int]:
        size = {seen.index: float(seen.key.abs().sum()) for seen in language.cache[layer - 1]}
        visual = [row.index for row in rows if row.visual]
        text = [row.index for row in rows if not row.visual and row.index > visual[0]]
        state = {row.index: row.state for row in rows}
        pivots = sorted(visual, key=lambda index: -size[index])[:4]
        words = sorted(text, key=lambda index: -size[index])[:4]
        stays = set(pivots)
        for pivot in set(pivots + words):  # in the order in which Python keeps a set

            def likeness(index: int, pivot: int = pivot) -> float:
                return float(state[index] @ state[pivot] / state[index].norm() / state[pivot].norm())

            left = sorted((index for index in visual if index not in stays), key=likeness)
            stays |= set(left[: int(len(visual) * keep / 8)])
        return stays | {row.index for row in rows if not row.visual}

    return choose


def fastv(keep: float) -> Pruner:
    """The visual tokens to which the last token of the layer before attends most, on average over its heads."""

    def choose(rows: list[Row], language: LanguageModel, layer: int) -> set[int]:
        visual = [row.index for row in rows if row.visual]
        attention = language.attention.mean(0)
        ranking = sorted(visual, key=lambda index: -float(attention[index]))
        stays = set(ranking[: max(1, int(len(visual) * keep))])
        return stays | {row.index for row in rows if not row.visual}

    return choose


# --------------------------------------------------------------------------------------------------- positions


def places(*parts: int | tuple[str, int, int, int]) -> list[Place]:
    """The place of each token of a prompt of `parts`: so many text tokens, or a visual input in patches."""
    result: list[Place] = []
    start = 0
    for part in parts:
        if isinstance(part, int):
            result += [(start + i,) * 3 for i in range(part)]
        else:
            _, frames, height, width = part
            result += [
                (start + t, start + row, start + column)
                for t in range(frames)
                for row in range(height // 2)
                for column in range(width // 2)
            ]
        start = max(max(place) for place in result) + 1
    return result
