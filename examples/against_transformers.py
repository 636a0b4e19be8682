"""Time ipcv against what one would write instead: PyAV and transformers alone, on the same frames and weights.

    python examples/against_transformers.py --folder /tmp/against               # all six cells
    python examples/against_transformers.py --frames 16 --cameras still         # one

The model has Qwen2-VL-2B's sizes and random weights; films and weights are made in `--folder` once.
`ask_transformers.py` and `ask_ipcv.py` run in processes of their own, in alternating order. Seconds are those from the
path of the video to the answer's first token; loading the weights comes before them, and is given by itself. Memory is
the peak of a process and those that it started, the weights included. "prompt" is tokens that went through all layers
of the language model, "encoder's FLOPs" a share of the dense encoder's. At first both halves compute a few frames
densely, and their visual embeddings and logits are compared, so that it is known that they do equal work.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
import transformers
from fidelity_clips import sample_clips
from real_sizes import build
from still_clip import still_film

from ipcv.models.hub import find_folder

HERE = Path(__file__).parent
MODEL = "qwen2-vl-2b"
STILL = "street"  # the kind of still_clip's films
QUESTION = "What happens in this video?"
FPS, RATE, HEIGHT = 2, 24, 360  # frames asked about per second, of the films, and the still one's height
CHECKED = 4  # frames that both halves compute densely: of so few, transformers places the text behind them right
TOLERANCE = 1e-3
TOKENS = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}  # the demo's
GIB = 2**30
HEADS = (
    *("camera", "frames", "pixels", "setting", "prompt", "encoder's FLOPs", "loading, s", "first token, s", "× theirs"),
    *("peak, GiB", "× theirs", "beside the weights, GiB"),
)


def write_model(folder: Path, layers: int) -> None:
    """Qwen2-VL-2B's sizes with random weights, `layers` of them in the language model, and the demo's tokenizer."""
    model = build(MODEL, 1, layers, torch.device("cpu"), torch.float32, special=TOKENS)
    model.save_pretrained(folder)
    demo = find_folder("demo")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder)
    settings = json.loads((demo / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings |= {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def moving_film(ride: Path, path: Path, seconds: int) -> Path:
    """Write the film of a ride, back and forth, if it is not there yet."""
    if path.exists():
        return path
    with av.open(ride) as container:
        frames = [frame.reformat(format="yuv420p") for frame in container.decode(video=0)]
    frames += frames[-2:0:-1]
    unfinished = path.with_suffix(".part.mp4")
    with av.open(unfinished, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for index in range(seconds * RATE):
            frame = frames[index % len(frames)]
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return unfinished.rename(path)


def film(folder: Path, camera: str, seconds: int) -> Path:
    """The film of a camera: a street that stands still but for a window, or a ride on a bicycle."""
    if camera == "still":
        return still_film(folder, STILL, seconds=seconds, height=HEIGHT, rate=RATE)
    (ride,) = [each for each in sample_clips() if each.stem == "bikes"]
    return moving_film(ride, folder / f"ride-{seconds}.mp4", seconds)


def made(folder: Path, cameras: list[str], seconds: int, layers: int) -> tuple[Path, dict[str, Path]]:
    """The model and the films in `folder`, made where they are not there yet."""
    model = folder / f"{MODEL}-{layers}"
    if not (model / "preprocessor_config.json").exists():
        write_model(model, layers)
    return model, {camera: film(folder, camera, seconds) for camera in cameras}


def run(half: str, model: Path, film: Path, *options: object) -> dict[str, Any]:
    """One question in a process of its own, by `ask_{half}.py`."""
    command = [sys.executable, str(HERE / f"ask_{half}.py"), str(model), str(film), QUESTION, "--fps", str(FPS)]
    done = subprocess.run([*command, *map(str, options)], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def differences(model: Path, film: Path, pixels: int, folder: Path) -> dict[str, float]:
    """How far the halves are apart without compression, as shares of the largest number, at most."""
    kept = {}
    for half, setting in {"transformers": [], "ipcv": ["--setting", "dense"]}.items():
        file = folder / f"{half}.pt"
        run(half, model, film, "--frames", CHECKED, "--pixels", pixels, "--keep", file, *setting)
        kept[half] = torch.load(file)
        file.unlink()
    theirs, ours = kept["transformers"], kept["ipcv"]
    if not torch.equal(theirs["ids"], ours["ids"]):
        raise SystemExit("the prompts differ")
    return {name: largest_gap(theirs[name], ours[name]) for name in ("visual", "logits")}


def largest_gap(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    """The largest difference of two tensors, as a share of their largest number."""
    if theirs.shape != ours.shape:
        raise SystemExit(f"shapes differ: {tuple(theirs.shape)} and {tuple(ours.shape)}")
    return float((theirs - ours).abs().max() / theirs.abs().max())


def cell(model: Path, film: Path, frames: int, settings: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one question under each of `settings`, in their order; "" is transformers alone."""
    found = {}
    for each in settings:
        half, more = ("ipcv", ["--setting", each]) if each else ("transformers", [])
        found[each] = run(half, model, film, "--frames", frames, "--pixels", args.pixels, *more)
        seen = [found[each][name] for name in ("frames", "size")]
        if args.stages:
            print(each or half, seen, found[each]["stages"], file=sys.stderr, flush=True)
    theirs = found[""]
    for each in found.values():
        if (each["frames"], each["size"]) != (frames, theirs["size"]):
            raise SystemExit(f"{each['frames']} frames of {each['size']} were seen, not {frames} of {theirs['size']}")
    return [found[name] for name in ("", *args.settings)]


def table(model: Path, films: dict[str, Path], args: argparse.Namespace) -> Iterator[str]:
    """The measurements, line by line."""
    yield f"| {' | '.join(HEADS)} |"
    yield f"|{'---|' * len(HEADS)}"
    weights, settings = (model / "model.safetensors").stat().st_size, ["", *args.settings]
    for camera, film in films.items():
        for frames in args.frames:
            found = cell(model, film, frames, settings, args)
            settings.reverse()
            for name, each in zip(["transformers", *args.settings], found, strict=True):
                shares = [f"{each[what] / found[0][what]:.2f}" for what in ("seconds", "peak")]
                cells = [camera, frames, " × ".join(map(str, each["size"][::-1])), name, each["prompt"]]
                cells += [f"{each['computed']:.2f}", f"{each['loading']:.1f}", f"{each['seconds']:.1f}", shares[0]]
                cells += [f"{each['peak'] / GIB:.2f}", shares[1], f"{(each['peak'] - weights) / GIB:.2f}"]
                yield f"| {' | '.join(map(str, cells))} |"


def parser() -> argparse.ArgumentParser:
    """The script's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="of films and weights, 9 GB; without one they are not kept")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--cameras", nargs="+", choices=("still", "moving"), default=["still", "moving"])
    parser.add_argument("--pixels", type=int, default=32_000, help="per frame at most")
    parser.add_argument("--layers", type=int, default=28, help="of the language model")
    parser.add_argument(
        "--settings", nargs="+", default=["coverage", "coverage+reused"], help="as `ipcv bench --settings` takes them"
    )
    parser.add_argument("--stages", action="store_true", help="print the seconds of each stage on stderr")
    return parser


def main() -> None:
    args = parser().parse_args()
    print(f"$ python {' '.join(sys.argv)}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, threads: {torch.get_num_threads()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        model, films = made(folder, args.cameras, max(args.frames) // FPS + 1, args.layers)
        apart = differences(model, films[args.cameras[0]], args.pixels, folder)
        print("dense, apart by at most: " + ", ".join(f"{name} {share:.0e}" for name, share in apart.items()) + "\n")
        if not max(apart.values()) <= TOLERANCE:
            raise SystemExit(f"they do not do the same work: the tolerance is {TOLERANCE}")
        for line in table(model, films, args):
            print(line, flush=True)


if __name__ == "__main__":
    main()
