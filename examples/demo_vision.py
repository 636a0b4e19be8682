"""The demo model's vision side: its configuration, a batched encoder pass, what each cell of a frame shows."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from ipcv.compressor import IPCV
from ipcv.tokens import Split, kept_count, most_changed
from ipcv.world import COLOURS, MOTIONS, SHAPES, Thing

SIDE = 112  # pixels of a training frame
PATCH, MERGE = 14, 2
CELLS = SIDE // (PATCH * MERGE)  # merged visual tokens per side
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LABELS = {"colour": list(COLOURS), "shape": list(SHAPES), "motion": list(MOTIONS)}


def build_model(vocabulary: int, ids: dict[str, int]) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL of four million parameters with weights drawn at unit gain; `ids` are its special tokens."""
    config = Qwen2VLConfig(
        vision_config={
            "depth": 6,
            "embed_dim": 160,
            "num_heads": 4,
            "mlp_ratio": 4,
            "hidden_size": 192,
            "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 8, 8]},
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


def to_patches(frames: Tensor, gain: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    """Frame pairs [B, 2, S, S, 3] (uint8) as normalised patches [B, n, 3, 392] in the family's merge order.

    Pixels are multiplied by `gain` and moved by `shift`, [B, 1, 3 or 1, 1], before they are normalised.
    """
    mean, std = (torch.tensor(x, device=frames.device).view(1, 1, 3, 1) * 255 for x in (MEAN, STD))
    shape = (len(frames), 2, CELLS, MERGE, PATCH, CELLS, MERGE, PATCH, 3)
    patches = frames.reshape(shape).permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(len(frames), -1, 3, 2 * PATCH**2)
    return patches.float().mul_(gain / std).add_((shift - mean) / std)


class Camera:
    """Noise, blur, brightness, contrast and tint as cameras and codecs add them, drawn anew for every frame pair."""

    def __init__(self, device: torch.device) -> None:
        self.noise = torch.randn(2**24, generator=torch.Generator().manual_seed(5)).bfloat16().to(device)

    def __call__(self, frames: Tensor, rng: torch.Generator) -> Tensor:
        """Patches [B, n, 3, 392] of frame pairs [B, 2, S, S, 3]."""
        count, device = len(frames), frames.device

        def draw(low: float, high: float, channels: int = 1) -> Tensor:
            return (torch.rand(count, 1, channels, 1, generator=rng) * (high - low) + low).to(device)

        soft = frames[: count // 4].float()
        blurred = (soft + soft.roll(1, 2) + soft.roll(1, 3) + soft.roll((1, 1), (2, 3))) / 4
        soft = torch.lerp(soft, blurred, draw(0, 1)[: count // 4, ..., None]).to(torch.uint8)
        gain = draw(0.85, 1.15)
        shift = 100 - 100 * gain + draw(-12, 12) + draw(-6, 6, 3)
        patches = to_patches(torch.cat((soft, frames[count // 4 :])), gain, shift)
        size = patches[:, :, 0].numel()
        start = int(torch.randint(len(self.noise) - size, (1,), generator=rng))
        noise = self.noise[start : start + size].view(count, -1, 1, patches.shape[-1])
        return patches.addcmul_(noise, draw(0, 6) / 255 / torch.tensor(STD, device=device).view(1, 1, 3, 1))


def encode(model: Qwen2VLForConditionalGeneration, patches: Tensor, compressor: IPCV | None = None) -> Tensor:
    """Merged visual tokens [B, pairs, m, d] of clips of frame pairs [B, pairs, n, 3, 392].

    The model's own weights, with one attention call for the frames of all clips, and with tokens of one clip competing
    where a `compressor` is given, which has to stabilise all blocks that it shrinks.
    """
    visual = model.model.visual
    clips, pairs = patches.shape[:2]
    hidden = F.linear(patches.flatten(0, 1).flatten(2), visual.patch_embed.proj.weight.flatten(1))
    shape = hidden.shape
    cos, sin = _rotation(visual.blocks[0].attn.head_dim, patches.device)
    pruned: _Pruned | None = None
    for index, block in enumerate(visual.blocks):
        before = hidden
        if pruned:
            hidden = pruned.restored().view(shape)
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
        if pruned:
            kept = pruned.gather(hidden.reshape(clips, -1, shape[-1]))
            pruned.kept = kept + block.mlp(block.norm2(kept))
        else:
            hidden = hidden + block.mlp(block.norm2(hidden))
        if compressor and index == compressor.layer - 1:
            pruned = _Pruned(compressor, before.reshape(clips, -1, shape[-1]), hidden.reshape(clips, -1, shape[-1]))
    if pruned:
        hidden = pruned.restored()
    return visual.merger(hidden.reshape(-1, shape[-1])).unflatten(0, (clips, pairs, -1))


class _Pruned:
    """The kept tokens [B, k, d] of clips between the pruning layer and the end of the encoder."""

    def __init__(self, compressor: IPCV, before: Tensor, after: Tensor) -> None:
        count = kept_count(after.shape[1], compressor.keep)
        chosen = [most_changed(old, new, count) for old, new in zip(before, after, strict=True)]
        self.splits = [Split.of(new, keep, compressor.neighbors) for new, keep in zip(after, chosen, strict=True)]
        self.kept = torch.stack([split.kept for split in self.splits])

    def restored(self) -> Tensor:
        """All tokens [B, n, d]."""
        return torch.stack([split.restore(kept) for split, kept in zip(self.splits, self.kept, strict=True)])

    def gather(self, everything: Tensor) -> Tensor:
        """The kept ones of all tokens [B, n, d]."""
        return torch.stack([rows[split.keep] for rows, split in zip(everything, self.splits, strict=True)])


def _rotation(width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, width] of the family's two-axis rotary positions, patches in merge order."""
    steps = torch.arange(CELLS * MERGE, device=device)
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(CELLS, MERGE, CELLS, MERGE, 2)
    places = grid.transpose(1, 2).reshape(-1, 2, 1)
    angles = (places / 10000 ** (torch.arange(0, width, 4, device=device) / width)).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def _attend(attention: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    query, key, value = attention.qkv(hidden).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = (x * cos + torch.cat((-x.chunk(2, -1)[1], x.chunk(2, -1)[0]), -1) * sin for x in (query, key))
    weights = (query * attention.scaling @ key.mT).softmax(-1)  # on CPU faster than a fused kernel at this size
    return attention.proj((weights @ value).transpose(1, 2).flatten(2))


def cell_labels(things: tuple[Thing, ...], times: tuple[float, ...]) -> np.ndarray:
    """What each cell shows at `times`: [colour, shape, motion, objects centred here] × cells.

    Class 0 is background, -100 a cell that an object barely touches.
    """
    fine = 7
    shares = np.zeros((len(things), CELLS * fine, CELLS * fine))
    centres = np.zeros((CELLS, CELLS), int)
    for share, thing in zip(shares, things, strict=True):
        for time in times:
            rows, columns, cover = thing.coverage(time, CELLS * fine)
            share[rows, columns] += cover / len(times)
        column, row = (int(c * CELLS) for c in thing.centre(sum(times) / len(times)))
        centres[row, column] += 1
    cells = shares.reshape(len(things), CELLS, fine, CELLS, fine).mean((2, 4)).reshape(len(things), -1)
    owner, share = cells.argmax(0), cells.max(0)
    labels = [np.array([1 + LABELS[name].index(getattr(t, name)) for t in things])[owner] for name in LABELS]
    labels = [np.where(share > 0.06, label, np.where(share > 0.01, -100, 0)) for label in labels]
    return np.stack([*labels, np.minimum(centres, 2).reshape(-1)])


class Probes(nn.Module):
    """Linear readings of merged visual tokens, trained beside the encoder and then thrown away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in (*(len(x) + 1 for x in LABELS.values()), 3))

    def forward(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, list[float]]:
        """Mean loss, and the share of right cells that show an object, for each label of [B, 4, m]."""
        losses, right = [], []
        for head, label in zip(self.heads, labels.unbind(1), strict=True):
            scores = head(tokens)
            losses.append(F.cross_entropy(scores.flatten(0, 1), label.flatten(), ignore_index=-100))
            right.append((scores.argmax(-1) == label)[label > 0].float().mean().item())
        return torch.stack(losses).mean(), right
