"""Settings that fit into the memory that is free, chosen before a model is loaded."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ipcv.answer import Options
from ipcv.budget import KEEP
from ipcv.errors import MemoryExhaustedError
from ipcv.families import find_language
from ipcv.free_memory import free_memory
from ipcv.language_flops import BLOCK, cache_bytes
from ipcv.load import Dtype, Quant, choose_dtype, find_device, find_folder, prequantized, read_config
from ipcv.prefill import CHUNK
from ipcv.preprocess import FrameSettings
from ipcv.qa import PIXELS
from ipcv.shapes import TextShape, VisionShape

SPARE = 0.8  # share of the free memory that is planned with: allocators, libraries and others need some
BYTES = {"8bit": 1.1, "4bit": 0.56}  # per parameter of a quantised layer, scales included
ENOUGH = 4096  # visual tokens, fewer than which are a reason to quantise
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model's sizes, as far as memory depends on them."""

    plain: int  # parameters that are never quantised
    linear: int  # those of the language model's linear layers
    vision: VisionShape
    text: TextShape
    context: int  # tokens

    @classmethod
    def of(cls, folder: Path, config: Any) -> "Sizes":
        """The sizes of the model in `folder`, from the headers of its weights: nothing is loaded."""
        language, counts = find_language(config.model_type), {"plain": 0, "linear": 0}
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    shape = file.get_slice(name).get_shape()
                    is_linear = ".layers." in name and len(shape) == 2 and not name.startswith(language.whole)
                    counts["linear" if is_linear else "plain"] += math.prod(shape)
        text = config.get_text_config()
        return cls(
            **counts,
            vision=language.vision(config),
            text=language.decoder(text),
            context=text.max_position_embeddings,
        )

    def weights(self, width: int, quant: str) -> int:
        """Bytes of the parameters in numbers of `width` bytes."""
        return self.plain * width + int(self.linear * BYTES.get(quant, width))

    def encoding(self, width: int, patches: int) -> int:
        """Bytes for a frame batch of so many `patches` on its way through the encoder: an estimate from above."""
        pixels = 3 * 4 * self.vision.patch_values  # as numbers, in order, and as patches
        states = width * (12 * self.vision.width + 2 * self.vision.mlp_width)
        return patches * (pixels + states)

    def prompting(self, width: int, tokens: int) -> int:
        """Bytes for a prompt of so many visual `tokens`, kept of up to four times as many: likewise."""
        text = self.text
        embeddings = int(tokens / KEEP) * text.width * width
        cache = cache_bytes(text, tokens, tokens, width=width)
        states = 4 * tokens * text.width * width
        rows = min(tokens, CHUNK)
        chunk = rows * width * (8 * text.width + 4 * text.query_width + 3 * text.mlp_width) + rows * tokens * 8
        return embeddings + cache + states + max(chunk, _linear_bytes(text, rows))


def _linear_bytes(text: TextShape, rows: int) -> int:
    """Bytes for so many `rows` on their way through a layer with linear attention, which computes in float32."""
    if (part := text.linear) is None:
        return 0
    return rows * 4 * (2 * part.convolved + part.heads * (8 * part.key_size + 5 * part.value_size + 6 * BLOCK))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was chosen."""

    options: Options
    quant: Quant
    why: str  # one line


def fit_to_device(
    name: str,
    options: Options | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
) -> Fit:
    """Settings for a model, fetched if need be, in the memory that is free on its device now; arguments as of `load`.

    Nothing is raised above `options`, and a `quant` other than "auto" stays. With "auto", numbers of `dtype` are
    preferred where they fit, then 8 and 4 bits, then 4 bits with whatever has to be lowered.

    >>> found = fit_to_device("demo")
    >>> load("demo", quant=found.quant).ask("clip.mp4", "What colour is the circle?", found.options)

    Raises `MemoryExhaustedError` if nothing fits; other errors as of `load`.
    """
    options = options or Options()
    where = find_device(device)
    kind = choose_dtype(dtype, where)
    folder = find_folder(name, revision=revision, offline=offline)
    config = read_config(folder)
    if prequantized(config):
        raise ValueError("--fit does not know how much memory weights need that are quantised already: leave it out")
    free, origin = free_memory(where)
    sizes, patches = Sizes.of(folder, config), find_language(config.model_type).settings(folder, config)
    quants: Sequence[Quant] = ["none", "8bit", "4bit"] if where.type in ("cuda", "xpu") else ["none", "4bit"]
    chosen, bits = fit(free, sizes, options, patches, kind.itemsize, quants if quant == "auto" else [quant])
    return Fit(options=chosen, quant=bits, why=explain(options, chosen, bits, kind, f"{free / GIB:.2f} GiB {origin}"))


def fit(
    free: int, sizes: Sizes, options: Options, patches: FrameSettings, width: int, quants: Sequence[Quant]
) -> tuple[Options, Quant]:
    """`options`, lowered where they have to be, and the first of `quants` with which enough fits into `free` bytes.

    Weights are in numbers of `width` bytes. The frame batch is halved first, down to one pair of frames, then pixels;
    visual tokens are as many as there is room for beside; frames, pixels and keep follow from these (`ipcv.budget`).
    Raises `MemoryExhaustedError` if nothing fits.
    """
    room = int(free * SPARE)
    wanted = min(options.max_visual_tokens or sizes.context, sizes.context)
    found: tuple[Options, Quant] | None = None
    for quant in quants:
        left = room - sizes.weights(width, quant)
        batch, pixels = _frames(left // 2, sizes, options, patches, width)
        tokens = bisect_right(range(1, wanted + 1), left, key=lambda count: sizes.prompting(width, count))
        if not batch or not tokens:
            continue
        limit = tokens if tokens < wanted else options.max_visual_tokens
        found = replace(options, frame_batch=batch, max_pixels=pixels, max_visual_tokens=limit), quant
        if tokens >= min(wanted, ENOUGH) and batch == options.frame_batch:
            break
    if found is None:
        raise MemoryExhaustedError(
            f"the weights take {sizes.weights(width, quants[-1]) / GIB:.2f} GiB, which with the work beside them do "
            f"not fit into the {free / GIB:.2f} GiB that are free: a smaller model would, or --quant 4bit"
        )
    return found


def _frames(left: int, sizes: Sizes, options: Options, patches: FrameSettings, width: int) -> tuple[int, int | None]:
    """The largest frame batch that fits into `left` bytes, 0 if none does, and pixels per frame if they are lowered."""
    pixels = patches.limited(options.max_pixels or PIXELS, strict=options.max_pixels is not None).max_pixels
    batch, least, given = options.frame_batch, max(patches.min_pixels, patches.factor**2), pixels
    while True:
        count = batch // patches.temporal_patch_size * math.ceil(pixels / patches.patch_size**2)
        if sizes.encoding(width, count) <= left:
            return batch, options.max_pixels if pixels == given else pixels
        if batch > 2:
            batch = max(2, batch // 4 * 2)
        elif pixels // 2 >= least:
            pixels //= 2
        else:
            return 0, None


def explain(given: Options, chosen: Options, quant: Quant, dtype: torch.dtype, free: str) -> str:
    """What was chosen, and why, in one line."""
    weights = str(dtype).removeprefix("torch.") if quant == "none" else f"{quant} weights"
    parts = [weights, f"{chosen.frame_batch} frames at a time"]
    if chosen.max_pixels != given.max_pixels:
        parts.append(f"{chosen.max_pixels:,} pixels a frame")
    if chosen.max_visual_tokens != given.max_visual_tokens:
        parts.append(f"{chosen.max_visual_tokens:,} visual tokens, for which frames, pixels and keep are lowered")
    else:
        parts.append("as many visual tokens as asked for" if given.max_visual_tokens else "the model's whole context")
    return f"fitted to {free} that are free: {', '.join(parts)}"
