"""How much faster the compressed vision encoder is, side by side with the plain one, at a real model's size.

    python examples/encoder_speed.py                        # Qwen2-VL's vision tower on whatever device there is
    python examples/encoder_speed.py --keep 0.2 --grid 32 32

The weights are random: speed does not depend on them. Plain and compressed passes alternate, so that both see the
same machine, and the ratio of their median times stands beside the ratio of their FLOPs.
"""

import argparse
import statistics
import sys
import time
from contextlib import nullcontext

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from ipcv import IPCV
from ipcv.flops import VisionShape, encoder_flops


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--frames", type=int, default=4, help="temporal patches")
    parser.add_argument("--grid", type=int, nargs=2, default=(24, 24), help="patches per side")
    parser.add_argument("--keep", type=float, default=0.35)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--stabilize", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model = tower(args.depth, args.width, device, dtype)
    compressor = IPCV(keep=args.keep, layer=args.layer, stabilize=args.stabilize)
    rows, columns = args.grid
    patches = torch.randn(args.frames * rows * columns, 3 * 2 * 14 * 14, device=device, dtype=dtype)
    grid = torch.tensor([[args.frames, rows, columns]], device=device)
    counts: list[torch.Tensor] = []

    def seconds(compressed: bool) -> float:
        start = time.perf_counter()
        with torch.inference_mode(), compressor(model) if compressed else nullcontext([]) as kept:
            model.get_video_features(patches, video_grid_thw=grid)
        if device.type != "cpu":
            torch.accelerator.synchronize()
        counts[:] = kept or counts
        return time.perf_counter() - start

    seconds(False), seconds(True)  # warm up
    pairs = [(seconds(False), seconds(True)) for _ in range(args.repeats)]
    dense, compressed = (statistics.median(times) for times in zip(*pairs, strict=True))

    shape = VisionShape.of(model.config.vision_config)
    frames = [rows * columns] * args.frames
    work = encoder_flops(shape, frames)
    done = encoder_flops(shape, frames, compressor, counts[-1].tolist())
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{device} {dtype}, {args.depth} blocks of {args.width}, {args.frames} x {rows} x {columns} patches")
    print(compressor)
    print(f"{'':12}{'seconds':>9}{'ratio':>8}{'TFLOPs':>9}{'ratio':>8}")
    print(f"{'plain':12}{dense:9.3f}{1:8.2f}{work / 1e12:9.3f}{1:8.2f}")
    print(f"{'compressed':12}{compressed:9.3f}{dense / compressed:8.2f}{done / 1e12:9.3f}{work / done:8.2f}")


if __name__ == "__main__":
    main()
