"""How much faster the compressed vision encoder is, side by side with the plain one, at a real model's size.

    python examples/encoder_speed.py                        # Qwen2-VL's vision tower on whatever device there is
    python examples/encoder_speed.py --settings paper,coverage@0.1 --grid 32 32

The weights are random: speed does not depend on them. Passes of all settings take turns, so that they see the same
machine, and the ratio of their median times stands beside the ratio of their FLOPs. "overhead" is what choosing
tokens, finding neighbours and rebuilding took of a compressed pass, in one more run under Python's profiler.
"""

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from contextlib import nullcontext

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from ipcv.encoder_flops import encoder_flops
from ipcv.families import qwen2_vl
from ipcv.settings import parse_settings

OVERHEAD = {("compressor.py", "split"), ("tokens.py", "rebuild"), ("tokens.py", "join")}


def tower(depth: int, width: int, device: torch.device, dtype: torch.dtype) -> Qwen2VLForConditionalGeneration:
    """A Qwen2-VL with a full-size random vision tower and next to no language model."""
    config = Qwen2VLConfig(
        vision_config={"depth": depth, "embed_dim": width, "num_heads": width // 80, "hidden_size": 64},
        text_config={
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        image_token_id=500,
        video_token_id=501,
        vision_start_token_id=502,
        vision_end_token_id=503,
    )
    torch.manual_seed(0)
    return Qwen2VLForConditionalGeneration(config).eval().to(device, dtype)


class Bench:
    """One tower and its input."""

    def __init__(self, depth: int, width: int, frames: int, grid: tuple[int, int]) -> None:
        self.device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        self.model = tower(depth, width, self.device, self.dtype)
        self.shape = qwen2_vl.shape(self.model.config)
        self.frames = [grid[0] * grid[1]] * frames
        self.patches = torch.randn(sum(self.frames), self.shape.patch_values, device=self.device, dtype=self.dtype)
        self.grid = torch.tensor([[frames, *grid]], device=self.device)

    def run(self, compressor) -> tuple[float, float]:
        """Seconds and TFLOPs of a pass."""
        start = time.perf_counter()
        with torch.inference_mode(), compressor(self.model) if compressor else nullcontext([]) as kept:
            self.model.get_video_features(self.patches, video_grid_thw=self.grid)
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        seconds = time.perf_counter() - start
        return seconds, encoder_flops(self.shape, self.frames, compressor, kept[-1].tolist() if kept else ()) / 1e12

    def overhead(self, compressor) -> float:
        """Share of a pass that is compression's own work; 0 for the plain model."""
        if compressor is None:
            return 0.0
        profile = cProfile.Profile()
        profile.runcall(self.run, compressor)
        calls = pstats.Stats(profile).stats.items()
        spent = sum(times[3] for (file, _, name), times in calls if (file.rpartition("/")[2], name) in OVERHEAD)
        return spent / max(times[3] for _, times in calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--settings", default="dense,paper,coverage,coverage@0.2,coverage@0.1", help="the first is 1.00"
    )
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--frames", type=int, default=4, help="temporal patches")
    parser.add_argument("--grid", type=int, nargs=2, default=(24, 24), help="patches per side")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    bench = Bench(args.depth, args.width, args.frames, args.grid)
    compressors = {setting.name: setting.options.compressor for setting in parse_settings(args.settings)}
    for compressor in compressors.values():
        bench.run(compressor)  # warm up
    runs = [[bench.run(compressor) for compressor in compressors.values()] for _ in range(args.repeats)]
    seconds = [statistics.median(run[0] for run in column) for column in zip(*runs, strict=True)]
    work = [teraflops for _, teraflops in runs[0]]

    print(f"$ python {' '.join(sys.argv)}")
    sizes = f"{args.frames} x {args.grid[0]} x {args.grid[1]} patches"
    print(f"{bench.device} {bench.dtype}, {args.depth} blocks of {args.width}, {sizes}")
    print(f"{'':16}{'seconds':>9}{'faster':>8}{'TFLOPs':>9}{'less':>8}{'overhead':>10}")
    for (name, compressor), took, done in zip(compressors.items(), seconds, work, strict=True):
        ratios = f"{took:9.3f}{seconds[0] / took:8.2f}{done:9.3f}{work[0] / done:8.2f}"
        print(f"{name:16}{ratios}{bench.overhead(compressor):10.1%}")


if __name__ == "__main__":
    main()
