"""The rival methods written naively, straight from their descriptions: loops over tokens, float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import oracle
import torch
from torch import Tensor


@dataclass
class Merged:
    """A token that stands for some patches of a frame."""

    state: Tensor
    patches: list[int]
    place: oracle.Place


class Encoder(oracle.Encoder):
    """The vision encoder with ToMe."""

    def tome(self, patches: Tensor, keep: float) -> oracle.Compressed:
        embedded, depth = self.embed(patches), self.config.depth
        frames = [
            [Merged(embedded[i], [i], self.places[i]) for i, of in enumerate(self.frames) if of == frame]
            for frame in range(self.frames[-1] + 1)
        ]
        sizes = [len(frame) for frame in frames]
        for block in range(depth):
            for index, (frame, size) in enumerate(zip(frames, sizes, strict=True)):
                gone = size - int(size * keep)
                count = gone * (block + 1) // depth - gone * block // depth
                frames[index] = self.merging_block(frame, block, count)
        output = torch.empty_like(embedded)
        for frame in frames:
            for token in frame:
                for patch in token.patches:
                    output[patch] = token.state
        return oracle.Compressed(output, self.merge(output), [], [len(frame) for frame in frames])

    def merging_block(self, frame: list[Merged], block: int, count: int) -> list[Merged]:
        heads, width = self.config.num_heads, self.config.embed_dim // self.config.num_heads
        states = torch.stack([token.state for token in frame])
        qkv = self.linear(self.norm(states, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv")
        qkv = qkv.view(len(frame), 3, heads, width)
        turned = [[oracle.rotate(qkv[i, j], self.angles(token.place)) for i, token in enumerate(frame)] for j in (0, 1)]
        query, key = turned
        sizes = torch.tensor([float(len(token.patches)) for token in frame], dtype=torch.float64)
        rows = []
        for i in range(len(frame)):
            mixed = []
            for head in range(heads):
                weights = torch.stack([torch.exp(k[head] @ query[i][head] / width**0.5) for k in key]) * sizes
                mixed.append(weights / weights.sum() @ qkv[:, 2, head])
            rows.append(torch.cat(mixed))
        states = states + self.linear(torch.stack(rows), f"blocks.{block}.attn.proj")
        tokens = [Merged(state, token.patches, token.place) for state, token in zip(states, frame, strict=True)]
        tokens = self.join_alike(tokens, list(qkv[:, 1].mean(1)), count)
        states = torch.stack([token.state for token in tokens])
        states = states + self.mlp(states, block)
        return [Merged(state, token.patches, token.place) for state, token in zip(states, tokens, strict=True)]

    def join_alike(self, tokens: list[Merged], keys: list[Tensor], count: int) -> list[Merged]:
        def alike(i: int, j: int) -> float:
            return float(keys[i] @ keys[j] / keys[i].norm() / keys[j].norm())

        odd = range(1, len(tokens), 2)
        best = {i: max(odd, key=lambda j, i=i: alike(i, j)) for i in range(0, len(tokens), 2)} if odd else {}
        chosen = sorted(best, key=lambda i: -alike(i, best[i]))[:count]
        joined = {j: [i for i in chosen if best[i] == j] for j in odd}
        result = []
        for index, token in enumerate(tokens):
            if index in chosen:
                continue
            members = [token, *(tokens[i] for i in joined.get(index, []))]
            patches = [patch for member in members for patch in member.patches]
            total = sum(member.state * len(member.patches) for member in members)
            result.append(Merged(total / len(patches), patches, token.place))
        return result


@dataclass
class LanguageModel(oracle.LanguageModel):
    """The language model with V2Drop: before layer `steps[i]`, of what is left the share `shares[i]` stays."""

    steps: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

    def feed(self, states: Tensor, places: Sequence[oracle.Place], visual: Sequence[bool]) -> Tensor:
        rows = [
            oracle.Row(state, place, self.length + i, is_visual)
            for i, (state, place, is_visual) in enumerate(zip(states, places, visual, strict=True))
        ]
        is_prompt = self.length == 0
        self.length += len(rows)
        before: dict[int, Tensor] = {}
        for layer in range(self.config.num_hidden_layers):
            if is_prompt and layer in self.steps:
                change = {row.index: float((row.state - before[row.index]).norm()) for row in rows if row.visual}
                count = max(1, int(len(change) * self.shares[self.steps.index(layer)]))
                stays = sorted(change, key=lambda index: -change[index])[:count]
                rows = [row for row in rows if not row.visual or row.index in stays]
            before = {row.index: row.state for row in rows}
            rows = self.behind(layer, self.all_through(rows, layer))
        final = oracle.rms_norm(rows[-1].state, self.get("norm.weight"), self.config.rms_norm_eps)
        return self.weights["lm_head.weight"] @ final


Video = list[list[Tensor]]  # the embeddings of each temporal patch


def likeness(one: Tensor, other: Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


def evs(video: Video, keep: float) -> set[tuple[int, int]]:
    """The first temporal patch and, of all others, what is least like its place's last state."""
    total, size = len(video) * len(video[0]), len(video[0])
    alike = {
        (time, place): likeness(video[time][place], video[time - 1][place])
        for time in range(1, len(video))
        for place in range(size)
    }
    ranking = sorted(alike, key=lambda token: alike[token])
    return {(0, place) for place in range(size)} | set(ranking[: max(0, int(total * keep) - size)])


def dtd(video: Video, keep: float | None, threshold: float) -> set[tuple[int, int]]:
    """The first temporal patch and, of each other one, what is unlike its place's last state."""
    stays = {(0, place) for place in range(len(video[0]))}
    for time in range(1, len(video)):
        alike = [likeness(*pair) for pair in zip(video[time], video[time - 1], strict=True)]
        ranking = sorted(range(len(alike)), key=lambda place, alike=alike: alike[place])
        if keep is None:
            left = [place for place in ranking if alike[place] <= threshold]
        else:
            left = ranking[: int(len(ranking) * keep)]
        stays |= {(time, place) for place in left}
    return stays


def vidcom2(video: Video, keep: float) -> set[tuple[int, int]]:
    """What stands out of the video and of its frame, on its calmest channels."""
    everything = [token for frame in video for token in frame]
    spread = []
    for channel in range(len(everything[0])):
        values = [float(token[channel]) for token in everything]
        mean = sum(values) / len(values)
        spread.append(sum((value - mean) ** 2 for value in values) / len(values))
    calm = sorted(range(len(spread)), key=lambda channel: spread[channel])[: len(spread) // 2]
    unit = [[token[calm] / token[calm].norm() for token in frame] for frame in video]
    whole = sum(token for frame in unit for token in frame) / len(everything)

    def near(token: Tensor, centre: Tensor) -> float:
        distance = float((token - centre).square().sum())
        return sum(math.exp(-distance / (2 * 2.0**power)) for power in range(-3, 2))

    to_video = [[near(token, whole) for token in frame] for frame in unit]
    weights = [math.exp(-sum(frame) / len(frame) / 0.01) for frame in to_video]
    weights = [weight / sum(weights) for weight in weights]
    stays = set()
    for time, frame in enumerate(unit):
        centre = sum(frame) / len(frame)
        score = [to_video[time][place] + near(token, centre) for place, token in enumerate(frame)]
        share = min(1, keep * (1 + weights[time] - sum(weights) / len(weights)))
        ranking = sorted(range(len(frame)), key=lambda place, score=score: score[place])
        stays |= {(time, place) for place in ranking[: max(1, round(share * len(frame)))]}
    return stays
