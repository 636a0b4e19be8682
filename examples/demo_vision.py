"""The demo model's vision side: its configuration, a batched encoder pass, and labels of what each patch shows."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from ipcv.world.drawing import GLYPHS, SHAPES, STROKE
from ipcv.world.scene import COLOURS, MOTIONS, SIZES, TAGS, Scene, Thing

PATCH, MERGE = 14, 2
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LABELS = {  # what is read off every patch, with its classes beside "none"
    "colour": list(COLOURS),
    "shape": list(SHAPES),
    "size": list(SIZES),
    "motion": list(MOTIONS),
    "change": ["appears", "disappears", "changes colour", "grows"],
    "centre": ["here"],
    "tag": list(TAGS),
    "glyph": list(GLYPHS),
}
SHOWN, HINTED = 0.15, 0.03  # share of a patch: from the first on it is labelled, up to the second it is background
FINE = 4  # samples per side of a patch
MOST_CELLS = 5  # tokens per side of a frame, in training


def build_model(vocabulary: int, ids: dict[str, int]) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL of seven million parameters with weights drawn at unit gain; `ids` are its special tokens."""
    config = Qwen2VLConfig(
        vision_config={
            "depth": 12,
            "embed_dim": 160,
            "num_heads": 4,
            "mlp_ratio": 4,
            "hidden_size": 256,
            "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            # turns fast enough for a grid of five tokens: with the usual 10,000 all columns look alike
            "rope_parameters": {"rope_type": "default", "rope_theta": 20.0, "mrope_section": [12, 10, 10]},
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            gain = 0.3 if name.endswith(("attn.proj.weight", "fc2.weight", "o_proj.weight", "down_proj.weight")) else 1
            nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)
    return model


class Camera:
    """Noise, blur, brightness, contrast and tint as cameras and codecs add them, drawn anew for every frame pair."""

    def __init__(self, device: torch.device) -> None:
        self.noise = torch.randn(2**25, generator=torch.Generator().manual_seed(5)).bfloat16().to(device)

    def __call__(self, frames: Tensor, rng: torch.Generator) -> Tensor:
        """Frame pairs [B, 2, 3, S, S] (0 to 255), changed in place."""
        count, device = len(frames), frames.device

        def draw(low: float, high: float, channels: int = 1) -> Tensor:
            return (torch.rand(count, 1, channels, 1, 1, generator=rng) * (high - low) + low).to(device)

        soft = frames[: count // 4]
        blurred = (soft + soft.roll(1, -1) + soft.roll(1, -2) + soft.roll((1, 1), (-2, -1))) / 4
        soft.lerp_(blurred, draw(0, 1)[: count // 4])
        gain = draw(0.85, 1.15)
        frames.mul_(gain).add_(100 - 100 * gain + draw(-12, 12) + draw(-6, 6, 3))
        start = int(torch.randint(len(self.noise) - frames.numel(), (1,), generator=rng))
        return frames.addcmul_(self.noise[start : start + frames.numel()].view(frames.shape), draw(0, 6))


def to_patches(frames: Tensor, side: int, camera: Camera | None = None, rng: torch.Generator | None = None) -> Tensor:
    """Frame pairs [B, 2, S, S, 3] (uint8) as normalised patches [B, n, 1176] in the family's merge order.

    They are resized to `side` pixels, and go through the `camera` if there is one.
    """
    pixels = frames.permute(0, 1, 4, 2, 3).float()
    if side != pixels.shape[-1]:
        pixels = F.interpolate(pixels.flatten(0, 1), (side, side), mode="bicubic", antialias=True).unflatten(0, (-1, 2))
    if camera and rng:
        pixels = camera(pixels, rng)
    mean, std = (torch.tensor(x, device=pixels.device).view(3, 1, 1) * 255 for x in (MEAN, STD))
    pixels = (pixels - mean) / std
    cells = side // (PATCH * MERGE)
    split = pixels.view(len(pixels), 2, 3, cells, MERGE, PATCH, cells, MERGE, PATCH)
    return split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(len(pixels), (cells * MERGE) ** 2, -1)


def encode(model: Qwen2VLForConditionalGeneration, patches: Tensor) -> Tensor:
    """Merged visual tokens [B, m, d] of frame pairs [B, n, 1176]: the model's own weights, frames in one batch."""
    visual = model.model.visual
    hidden = F.linear(patches, visual.patch_embed.proj.weight.flatten(1))
    side = int(hidden.shape[1] ** 0.5)
    cos, sin = _rotation(visual.blocks[0].attn.head_dim, side, patches.device)
    for block in visual.blocks:
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden.reshape(-1, hidden.shape[-1])).unflatten(0, (len(patches), -1))


def _rotation(width: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, width] of the family's two-axis rotary positions, patches in merge order."""
    steps = torch.arange(side, device=device)
    cells = side // MERGE
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(cells, MERGE, cells, MERGE, 2)
    places = grid.transpose(1, 2).reshape(-1, 2, 1)
    angles = (places / 10000 ** (torch.arange(0, width, 4, device=device) / width)).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def _attend(attention: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    query, key, value = attention.qkv(hidden).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = (x * cos + torch.cat((-x.chunk(2, -1)[1], x.chunk(2, -1)[0]), -1) * sin for x in (query, key))
    weights = (query * attention.scaling @ key.mT).softmax(-1)  # on CPU faster than a fused kernel at this size
    return attention.proj((weights @ value).transpose(1, 2).flatten(2))


def patch_labels(scene: Scene, times: tuple[float, float], side: int) -> np.ndarray:
    """Label what each patch of a frame pair of `side` pixels shows: [labels, patches in merge order].

    Class 0 is "none", -100 a patch that cannot be said.
    """
    grid = side // PATCH
    labels = {name: np.zeros(grid * grid, int) for name in LABELS}
    shifts = [scene.shift(time, side) for time in times]
    middle = (times[0] + times[1]) / 2
    x, y = np.mean(shifts, 0)
    shares = _shares(scene, times, shifts, grid)
    things = shares[: len(scene.things)]
    if len(things):
        owner, share = things.argmax(0), things.max(0)
        for name in ("colour", "shape", "size", "motion", "change"):
            classes = np.array([_thing_label(name, thing, times) for thing in scene.things])[owner]
            labels[name] = np.where(share > SHOWN, classes, np.where(share > HINTED, -100, 0))
        for thing in scene.things:
            if any(map(thing.is_there, times)):
                labels["centre"][_patch(np.add(thing.path.at(middle), (x, y)), grid)] = 1
    for tag, share in zip(scene.tags, shares[len(scene.things) :], strict=True):
        ground = 1 + LABELS["tag"].index(tag.colour)
        labels["tag"] = np.where(share > SHOWN, ground, np.where(share > HINTED, -100, labels["tag"]))
        labels["glyph"] = np.where(share > HINTED, -100, labels["glyph"])
        centre = np.add(tag.path.at(middle), (x, y))
        at = (np.arange(grid) + 0.5) / grid
        inside = np.abs(at - centre[1]) < tag.half()[1]
        letters = ((at - centre[0]) / (6 * STROKE) + len(tag.code) / 2).round(6)
        for column, letter in enumerate(np.floor(letters).astype(int)):
            if 0 <= letter < len(tag.code):
                rows = np.flatnonzero(inside)
                labels["glyph"][rows * grid + column] = 1 + LABELS["glyph"].index(tag.code[letter])
    stacked = np.stack(list(labels.values())).reshape(len(LABELS), grid // MERGE, MERGE, grid // MERGE, MERGE)
    return stacked.transpose(0, 1, 3, 2, 4).reshape(len(LABELS), -1)


def _shares(scene: Scene, times: tuple[float, float], shifts: list[tuple[float, float]], grid: int) -> np.ndarray:
    """Which share of each patch shows each thing and each tag, meaned over two moments: [items, patches]."""
    items, size = [*scene.things, *scene.tags], grid * FINE
    layers = np.zeros((len(items), size, size), np.float32)
    for time, shift in zip(times, shifts, strict=True):
        seen = np.zeros_like(layers)
        for item, (rows, columns, share) in scene.covers(time, shift, size):
            seen[:, rows, columns] *= 1 - share
            if item is not scene.pillar:
                seen[next(i for i, other in enumerate(items) if other is item), rows, columns] = share
        layers += seen / len(times)
    return layers.reshape(-1, grid, FINE, grid, FINE).mean((2, 4)).reshape(len(layers), -1)


def _thing_label(name: str, thing: Thing, times: tuple[float, float]) -> int:
    """The class of a thing during a frame pair; -100 where there is none."""
    first, second = map(thing.is_there, times)
    if name == "change":
        happened = "appears" if second > first else "disappears" if first > second else None
        happened = "changes colour" if thing.rgb_at(times[0]) != thing.rgb_at(times[1]) else happened
        happened = "grows" if thing.radius_at(times[1]) > 1.1 * thing.radius_at(times[0]) else happened
        return 1 + LABELS[name].index(happened) if happened else 0
    if name == "size" and thing.happens("grows"):
        return -100
    value = str(getattr(thing, name))
    if name == "colour" and thing.event and thing.event.colour and times[1] >= thing.event.time:
        value = thing.event.colour
    if name == "motion" and thing.happens("bounces") and thing.event:
        if times[0] < thing.event.time < times[1]:
            return -100
        value = value if times[1] <= thing.event.time else BACK[value]
    return 1 + LABELS[name].index(value)


BACK = {"left": "right", "right": "left", "up": "down", "down": "up"}


def _patch(centre: np.ndarray, grid: int) -> int:
    column, row = np.clip((centre * grid).astype(int), 0, grid - 1)
    return int(row * grid + column)


class Probes(nn.Module):
    """Linear readings of visual tokens, trained beside the model and then thrown away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(classes) + 1 for classes in LABELS.values()]
        self.head = nn.Linear(width, MERGE**2 * sum(self.sizes))
        self.place = nn.Linear(width, 2 * MOST_CELLS)

    def forward(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, list[float]]:
        """Mean loss, and the share of right patches among those that show something, per label of [B, labels, n].

        Patches that show something, which are few, weigh as much as those that do not.
        """
        scores = self.head(tokens).unflatten(-1, (MERGE**2, -1)).flatten(1, 2)  # [B, n, classes of all labels]
        losses, right = [], []
        for part, label in zip(scores.split(self.sizes, -1), labels.unbind(1), strict=True):
            part, label = part.flatten(0, 1).float(), label.flatten()
            shown = label > 0
            losses += [F.cross_entropy(part[which], label[which]) for which in (shown, label == 0) if which.any()]
            right.append((part.argmax(-1) == label)[shown].float().mean().item())
        return torch.stack(losses).mean(), right

    def where(self, hidden: Tensor, cells: int) -> Tensor:
        """Mean loss of telling row and column of tokens [B, n, d] inside the language model; `cells` per frame.

        The encoder's rotary positions are relative: where in the frame a token is, the language model alone can
        find out, by attending to the start of the prompt. Left to answers, it never does.
        """
        side = round(cells**0.5)
        number = torch.arange(hidden.shape[1], device=hidden.device) % cells
        labels = torch.stack((number // side, number % side), -1).expand(len(hidden), -1, -1)
        return F.cross_entropy(self.place(hidden).float().unflatten(-1, (2, -1)).flatten(0, -2), labels.flatten())
