"""Time encoder and prefill, dense and compressed side by side, on models of real sizes with random weights.

    python examples/speed.py                                        # on a CPU: fewer blocks and small frames
    python examples/speed.py --scale 1 --layers 4 --side 336        # on a CPU: the whole encoder
    python examples/speed.py --model qwen2.5-vl-7b --frames 32 128  # on a GPU: all of it, at 448 x 448 pixels
    python examples/speed.py --profile trace.json --nf4

Passes of all settings take turns, so that they see the same machine; times are medians, and shares are of the first
setting's. On a CPU they are times of the process, which other processes do not lengthen. "time / FLOPs" says how much
of what is saved on paper is saved on the clock: 1 is all of it. "own work" is what choosing tokens, finding neighbours
and rebuilding took of the encoder's time, in one more run with marks around them.
"""

import argparse
import statistics
import sys
from contextlib import nullcontext
from typing import Any

import bitsandbytes as bnb
import torch
from marks import Marks, clock
from real_sizes import SIZES, build
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ipcv import Options
from ipcv.architecture.shapes import TextShape
from ipcv.architecture.visual import Visual, VisualSpan
from ipcv.benchmark.settings import parse_settings
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.compression.pruners.decoder_flops import prefill_flops
from ipcv.families import find_encoder, find_language
from ipcv.inference.generate import Chooser, decode, prefill
from ipcv.models.prompt import TEXT, VIDEO, Prompt

WORDS = 32  # of text in the prompt, half of them behind the video
WAITING = {  # in a trace of a GPU what waits for it, in one of a CPU what would and can be seen there
    "cuda": ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"),
    "cpu": ("aten::_local_scalar_dense", "aten::nonzero", "aten::unique_consecutive", "aten::_unique2"),
}


class Bench:
    """A model, and a video of `frames` frames of `side` × `side` pixels in batches of at most `batch`."""

    def __init__(self, model: Any, frames: int, side: int, batch: int) -> None:
        self.model, self.device = model, model.device
        self.language, self.encoder = find_language(model.config.model_type), find_encoder(model)
        self.vision, self.text = self.language.vision(model.config), TextShape.of(model.config.get_text_config())
        side //= 14
        self.batches = [(min(batch, frames - start) // 2, side, side) for start in range(0, frames, batch)]
        grid = (frames // 2, side, side)
        rows, tokens = self.batches[0][0] * side**2, frames // 2 * side**2 // self.vision.merge
        self.patches = self.random(rows, self.vision.patch_values)
        self.visual = Visual(self.random(tokens, self.text.width), self.random(0, tokens, self.text.width))
        ids = torch.full((1, tokens + WORDS), model.config.video_token_id)
        ids[:, : WORDS // 2] = ids[:, -WORDS // 2 :] = 7
        self.prompt = Prompt(ids, torch.where(ids == 7, TEXT, VIDEO))
        shown = VisualSpan(kind="video", grid=grid, times=tuple(i / 2 for i in range(frames)), tokens=tokens)
        self.positions = self.language.positions(model, ids, self.prompt.types, [shown]).to(self.device)

    def random(self, *shape: int) -> Tensor:
        """Draw noise."""
        return torch.randn(shape, device=self.device, dtype=self.model.dtype)

    def settle(self) -> float:
        """Wait until the device is done, and read the clock."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return clock(self.device)

    def encode(self, options: Options, batches: int | None = None) -> tuple[float, int]:
        """Run the encoder over some of the batches, or all: seconds and FLOPs."""
        start, flops, batches = self.settle(), 0, self.batches[:batches]
        with options.compressor(self.model) if options.compressor else nullcontext([]) as kept:
            for grid in batches:
                self.language.encode(self.model, self.patches[: grid[0] * grid[1] * grid[2]], grid)
        seconds = self.settle() - start
        counts = [each.tolist() for each in kept] or [()] * len(batches)
        for grid, count in zip(batches, counts, strict=True):
            parts = self.encoder.divisions([grid])
            flops += encoder_flops(
                self.vision, PassWork(frames=parts[0], windows=parts[-1], kept=count), options.compressor
            )
        return seconds, flops

    def prefill(self, options: Options) -> tuple[float, int]:
        """Run the language model over the prompt: seconds and FLOPs."""
        start = self.settle()
        with options.pruner(self.model) if options.pruner else nullcontext():
            prefill(self.model, self.prompt, self.visual, self.positions)
        length = self.prompt.ids.shape[1]
        return self.settle() - start, prefill_flops(self.text, length, len(self.visual), options.pruner)

    def own(self, options: Options) -> float:
        """Measure the share of the encoder's time that compression's own work takes."""
        marks = Marks(self.device)
        with marks.on():
            seconds, _ = self.encode(options)
        return marks.seconds() / seconds

    def waits(self, options: Options, trace: str | None = None) -> int:
        """Count how often the host waits in a pass of the encoder; the profiler's trace goes into the file `trace`."""
        is_cuda = self.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
        with Marks(self.device).on(), profile(activities=activities) as seen:
            self.encode(options, batches=1)
        if trace:
            seen.export_chrome_trace(trace)
        return sum(event.name in WAITING["cuda" if is_cuda else "cpu"] for event in seen.events())


def compare(bench: Bench, settings: dict[str, Options], repeats: int) -> list[str]:
    """Measure the rows of the table for one number of frames."""
    for options in settings.values():  # warm up
        bench.encode(options, batches=1)
        bench.prefill(options)
    runs = [[(*bench.encode(each), *bench.prefill(each)) for each in settings.values()] for _ in range(repeats)]
    columns = [[statistics.median(run[i] for run in turns) for i in range(4)] for turns in zip(*runs, strict=True)]
    first, rows = columns[0], []
    for (name, options), taken in zip(settings.items(), columns, strict=True):
        cells = [f"{2 * sum(grid[0] for grid in bench.batches)}", name]
        for seconds, flops in ((0, 1), (2, 3)):
            shares = taken[seconds] / first[seconds], taken[flops] / first[flops]
            cells += [f"{taken[seconds]:.3f}", *(f"{share:.3f}" for share in shares), f"{shares[0] / shares[1]:.2f}"]
        cells.insert(6, f"{bench.own(options):.1%}" if options.compressor else "")
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def four_bits(model: Any) -> None:
    """Quantise the language model's linear layers to NF4, as `ipcv` loads them."""
    for module in list(model.model.language_model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                small = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, child.bias is not None, torch.bfloat16, quant_type="nf4"
                )
                small.weight = bnb.nn.Params4bit(child.weight.data, requires_grad=False, quant_type="nf4")
                small.bias = child.bias
                setattr(module, name, small.to(child.weight.device))


def held(weight: nn.Parameter) -> int:
    """Count the bytes of a weight and, if it is quantised, of its scales."""
    state = getattr(weight, "quant_state", None)
    return weight.nbytes + (state.absmax.nbytes if state else 0)


def speak(bench: Bench, name: str, tokens: int) -> str:
    """Measure a row: memory of the language model, and tokens per second behind a prompt."""
    model = bench.model
    weights = {
        id(each): held(each) for part in (model.model.language_model, model.lm_head) for each in part.parameters()
    }
    decoding = prefill(model, bench.prompt, bench.visual, bench.positions)
    chooser, start = Chooser(model, 0.0, 0), bench.settle()
    count = sum(1 for _ in decode(model, decoding, chooser, tokens))
    return f"| {name} | {sum(weights.values()) / 2**30:.2f} | {count / (bench.settle() - start):.1f} |"


def arguments(on_cpu: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="qwen2-vl-2b")
    parser.add_argument("--scale", type=float, default=1 / 8 if on_cpu else 1, help="share of blocks, layers and words")
    parser.add_argument("--layers", type=int, help="of the language model, in place of their share")
    parser.add_argument("--frames", type=int, nargs="+", default=[8] if on_cpu else [32, 128, 512])
    parser.add_argument("--side", type=int, default=140 if on_cpu else 448, help="pixels, in steps of 28")
    parser.add_argument("--frame-batch", type=int, default=16, help="frames encoded at a time")
    parser.add_argument("--settings", default="dense,paper+dart,coverage+dart", help="the last one is profiled")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tf32", action="store_true", help="float32 products, such as distances, in TF32")
    parser.add_argument("--profile", metavar="FILE", help="write a trace, and count how often the host waits")
    parser.add_argument("--nf4", action="store_true", help="tokens per second and memory in 16 and in 4 bits")
    args = parser.parse_args()
    if args.side < 28 or args.side % 28:
        parser.error(f"--side {args.side} must be a multiple of 28: patches of 14 pixels are merged in twos")
    if any(frames < 2 or frames % 2 for frames in (*args.frames, args.frame_batch)):
        parser.error("--frames and --frame-batch must be even and at least 2: patches span two frames")
    return args


def main() -> None:
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    on_cpu = device.type == "cpu"
    args = arguments(on_cpu)
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")

    model = build(args.model, args.scale, args.layers, device, torch.float32 if on_cpu else torch.bfloat16)
    settings = {each.name: each.options for each in parse_settings(args.settings)}
    print(f"`python {' '.join(sys.argv)}`\n")
    where = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    where += f", threads: {torch.get_num_threads()}" if on_cpu else ""
    depth = f"{len(find_encoder(model).blocks)} blocks, {model.config.get_text_config().num_hidden_layers} layers"
    print(f"{where}, {model.dtype}, torch {torch.__version__}")
    print(f"{args.model}: {depth}; {args.side} x {args.side} pixels\n")
    part = "seconds | time | FLOPs | time / FLOPs"
    print(f"| frames | setting | encoder: {part} | own work | prefill: {part} |\n|{'---|' * 11}")
    with torch.inference_mode():
        for frames in args.frames:
            bench = Bench(model, frames, args.side, args.frame_batch)
            print("\n".join(compare(bench, settings, args.repeats)), flush=True)
        if args.profile:
            waits = {name: bench.waits(each, args.profile) for name, each in settings.items()}
            print(f"\nwaits of the host in a pass of the encoder: {waits}; trace of the last one: {args.profile}")
        if args.nf4:
            print("\n| language model | GiB | tokens per second |\n|---|---|---|")
            model.to(torch.bfloat16)
            bench = Bench(model, args.frames[0], args.side, args.frame_batch)
            print(speak(bench, "16 bits", 32), flush=True)
            four_bits(model)
            print(speak(bench, "NF4", 32))


if __name__ == "__main__":
    main()
