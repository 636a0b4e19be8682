"""Choose options and quantisation that fit into the free memory, before a model is loaded."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ipcv.architecture.preprocess import FrameSettings
from ipcv.errors import MemoryExhaustedError
from ipcv.families import find_language
from ipcv.limits.free_memory import free_memory
from ipcv.limits.memory_estimate import Sizes
from ipcv.models.placement import Dtype, Quant, prequantized
from ipcv.models.source import ModelSource, ResolvedModel
from ipcv.options import PIXELS, Options

SPARE = 0.8  # share of the free memory to plan with: allocators and libraries need some as well
ENOUGH = 4096  # visual tokens: room for fewer is a reason to quantise
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Options and quantisation that fit, and why they were chosen."""

    options: Options
    quant: Quant
    batch_size: int | None = None  # answers written at a time; None: not asked about
    why: str  # one line


def fit_to_device(
    name: str | ModelSource,
    options: Options | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    quant: Quant = "auto",
    offline: bool = False,
    batch_size: int | None = None,
    neighbors: int = 1,
) -> Fit:
    """Options and quantisation for a model in the memory that is free on its device now; fetches it if need be.

    Nothing is raised above `options`, and a `quant` other than "auto" stays. "auto" tries `dtype` first, then 8 and
    4 bits, then 4 bits with lowered options; a checkpoint that is quantised already stays as it is. Frames count with
    all the pixels that they may have: no video is looked at. `batch_size` is how many answers are written at a time;
    `neighbors` is how many processes, this one included, start on the device and share what is free. The other
    arguments are those of `load`.

    >>> found = fit_to_device("demo")
    >>> load("demo", quant=found.quant).ask("clip.mp4", "What colour is the circle?", found.options)

    Raises `MemoryExhaustedError` if nothing fits, `ValueError` for weights of unknown size; and errors as of `load`.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    options = options or Options()
    source = ModelSource.of(name, revision=revision, device=device, dtype=dtype, quant=quant, offline=offline)
    model = source.resolve()
    free, origin = free_memory(model.device)
    if neighbors > 1:
        free, origin = free // neighbors, f"{origin} (for each of {neighbors} processes)"
    sizes = Sizes.of(model.folder, model.config)
    patches = find_language(model.config.model_type).settings(model.folder, model.config)
    found = fit(free, sizes, options, patches, model.dtype.itemsize, _quants(source, model), batch_size)
    weights = prequantized(model.config) or (found.quant if found.quant != "none" else model.dtype_name)
    most = _patches(options, patches).max_pixels
    return replace(found, why=explain(options, found, weights, most, f"{free / GIB:.2f} GiB {origin}"))


def _quants(source: ModelSource, model: ResolvedModel) -> Sequence[Quant]:
    """The quantisations to try, the best first."""
    if prequantized(model.config):
        return ["none"]
    if source.quant != "auto":
        return [source.quant]
    return ["none", "8bit", "4bit"] if model.device.type in ("cuda", "xpu") else ["none", "4bit"]


def fit(
    free: int,
    sizes: Sizes,
    options: Options,
    patches: FrameSettings,
    width: int,
    quants: Sequence[Quant],
    batch_size: int | None = None,
) -> Fit:
    """The first of `quants` with which enough fits into `free` bytes, and `options` lowered as far as needed.

    Unquantised weights take `width` bytes. For the encoder, the frame batch is halved first, down to a pair of frames,
    then the pixels. For the prompts, the answers at a time are halved first, down to one; then the visual tokens are
    limited to what there is room for, which frames, pixels and keep follow (`ipcv.limits.extent`).
    Raises `MemoryExhaustedError` if nothing fits.
    """
    wanted = min(options.max_visual_tokens or sizes.context, sizes.context)
    found: Fit | None = None
    for quant in quants:
        left = int(free * SPARE) - sizes.weights(width, quant)
        frames, pixels = _frames(left // 2, sizes, options, patches, width)
        tokens, size = _tokens(left, sizes, width, wanted, batch_size)
        if not frames or not tokens:
            continue
        limit = tokens if tokens < wanted else options.max_visual_tokens
        chosen = replace(options, frame_batch=frames, max_pixels=pixels, max_visual_tokens=limit)
        found = Fit(options=chosen, quant=quant, batch_size=size, why="")
        if tokens >= min(wanted, ENOUGH) and frames == options.frame_batch:
            break
    if found is None:
        least = sizes.weights(width, quants[-1]) / GIB
        ways = "a smaller model would" + (', or `quant="4bit"`' if sizes.linear and "4bit" not in quants else "")
        raise MemoryExhaustedError(
            f"the weights take {least:.2f} GiB, which with the work beside them do not fit into the "
            f"{free / GIB:.2f} GiB that are free: {ways}"
        )
    return found


def _tokens(left: int, sizes: Sizes, width: int, wanted: int, batch_size: int | None) -> tuple[int, int | None]:
    """Visual tokens that a prompt may have in `left` bytes, and answers at a time, halved as often as needed."""
    tokens = bisect_right(range(1, wanted + 1), left, key=lambda count: sizes.prompting(width, count, batch_size))
    if tokens >= min(wanted, ENOUGH) or batch_size is None or batch_size == 1:
        return tokens, batch_size
    return _tokens(left, sizes, width, wanted, batch_size // 2)


def _frames(left: int, sizes: Sizes, options: Options, patches: FrameSettings, width: int) -> tuple[int, int | None]:
    """The largest frame batch that fits into `left` bytes, or 0, and the pixels per frame, None unless lowered."""
    pixels = _patches(options, patches).max_pixels
    batch, least, given = options.frame_batch, max(patches.min_pixels, patches.factor**2), pixels
    while True:
        picture = math.ceil(pixels / patches.patch_size**2)
        held = sizes.carried(width, picture) if options.compressor and options.compressor.reuses else 0
        if sizes.encoding(width, batch // patches.temporal_patch_size * picture) + held <= left:
            return batch, options.max_pixels if pixels == given else pixels
        if batch > 2:
            batch = max(2, batch // 4 * 2)
        elif pixels // 2 >= least:
            pixels //= 2
        else:
            return 0, None


def _patches(options: Options, patches: FrameSettings) -> FrameSettings:
    return patches.limited(options.max_pixels or PIXELS, strict=options.max_pixels is not None)


def explain(given: Options, found: Fit, weights: str, most: int, free: str) -> str:
    """One line on what was chosen and why; `most` is the largest number of pixels in a frame, unless lowered."""
    chosen = found.options
    parts = [f"{weights} weights", f"{chosen.frame_batch} frames at a time"]
    if chosen.max_pixels != given.max_pixels:
        parts.append(f"{chosen.max_pixels:,} pixels a frame")
    if found.batch_size is not None:
        parts.append(f"{found.batch_size} answers at a time")
    if chosen.max_visual_tokens != given.max_visual_tokens:
        parts.append(f"{chosen.max_visual_tokens:,} visual tokens, for which frames, pixels and keep are lowered")
    else:
        parts.append("as many visual tokens as asked for" if given.max_visual_tokens else "the model's whole context")
    size = f"estimated for frames of {chosen.max_pixels or most:,} pixels, the most that they may have"
    return f"fitted to {free} that are free: {', '.join(parts)} ({size})"
