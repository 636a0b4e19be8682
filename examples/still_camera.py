"""Time `ipcv ask` on ten minutes of a still camera, with compression and without, in turns.

    python examples/still_camera.py --folder films                                   # with the demo model
    python examples/still_camera.py --folder films --model wide --blocks 8 --frames 32
    python examples/still_camera.py --folder films --minutes 1 --frames 8 --height 360 --repeats 1

The films (still_clip.py) and the model "wide" are made once and kept in the folder. "wide" is a Qwen2-VL whose encoder
has its real width, 1,280, with random weights, `--blocks` of its 32 blocks and a language model of 4 layers: its times
mean something, its words do not. Each answer is a process of its own. "read + encode" goes from the opened video to the
last encoded frame, "all" from start to end of the process; the stages are the answer's own, and reading runs beside
encoding. "CPU" is what both processes of an answer computed, which other work on the machine does not lengthen. Times
are medians. Further options are those of `ipcv ask`, for the compressed runs.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from real_sizes import config
from still_clip import still_film
from transformers import AutoModelForImageTextToText

from ipcv.models.hub import find_folder

QUESTIONS = {"street": "Describe the video.", "drawn": "What colour is the circle?"}
STAGES = ("read", "preprocess", "encode", "prefill")
COLUMNS = (*STAGES, "read + encode", "all", "CPU")


@dataclass(frozen=True)
class Run:
    """One answer."""

    seconds: dict[str, float]
    answer: str
    computed: float  # share of the patches
    flops: float  # share of the plain encoder's


def wide_model(folder: Path, blocks: int) -> Path:
    """Write the model with random weights, and the demo model's words, if it is not there yet."""
    path, demo = folder / f"wide-{blocks}", find_folder("demo")
    if path.exists():
        return path
    known = json.loads((demo / "config.json").read_text(encoding="utf-8"))
    sizes = config("qwen2-vl-2b", 1.0, layers=4)
    sizes.vision_config.depth, sizes.text_config.vocab_size = blocks, known["text_config"]["vocab_size"]
    for name, number in known.items():
        if name.endswith("_token_id"):
            setattr(sizes, name, number)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(sizes, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    unfinished = path.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, unfinished)
    settings = json.loads((demo / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings |= {"min_pixels": 56 * 56, "max_pixels": 16384 * 28 * 28}
    (unfinished / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return unfinished.rename(path)


def ask(film: Path, question: str, options: list[str]) -> Run:
    """Run `ipcv ask`, and note when its events arrive."""
    command = [sys.executable, "-m", "ipcv_cli", "ask", str(film), question, "--json-stream", "--quiet", *options]
    before, arrived = _processor_seconds(), {"": time.perf_counter()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            event = json.loads(line)
            arrived[event["event"] if event["event"] != "stage" else event["stage"]["name"]] = time.perf_counter()
    if process.returncode:
        sys.exit(process.returncode)
    answer: dict[str, Any] = event["answer"]
    seconds = {stage["name"]: stage["seconds"] for stage in answer["stages"]}
    seconds |= {"read + encode": arrived["read"] - arrived["opened"], "all": time.perf_counter() - arrived[""]}
    seconds["CPU"] = _processor_seconds() - before
    patches, encode = answer["videos"][0], next(each for each in answer["stages"] if each["name"] == "encode")
    computed = patches["patches_computed"] / patches["patches"]
    return Run(seconds, answer["answer"], computed, encode["flops"] / encode["flops_dense"])


def _processor_seconds() -> float:
    """CPU seconds of the processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def compare(film: Path, kind: str, common: list[str], ours: list[str], repeats: int) -> None:
    """Print the seconds of both, and how many times as fast the compressed one is."""
    pairs = [
        (ask(film, QUESTIONS[kind], [*common, *ours]), ask(film, QUESTIONS[kind], [*common, "--no-compress"]))
        for _ in range(repeats)
    ]
    print(f"\n{film.name:24}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'computed':>10}{'FLOPs':>8}")
    for name, runs in zip(("compressed", "no compression"), zip(*pairs, strict=True), strict=True):
        cells = (f"{statistics.median(run.seconds[column] for run in runs):14.2f}" for column in COLUMNS)
        print(f"{name:24}{''.join(cells)}{runs[0].computed:10.3f}{runs[0].flops:8.3f}")
    faster = (statistics.median(b.seconds[column] / a.seconds[column] for a, b in pairs) for column in COLUMNS)
    print(f"{'times as fast':24}" + "".join(f"{times:14.2f}" for times in faster))
    same = all(a.answer == b.answer for a, b in pairs)
    print(f"the same answer: {same} ({pairs[0][0].answer[:60]!r}, {pairs[0][1].answer[:60]!r})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where films and models are kept")
    parser.add_argument("--films", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--rate", type=int, default=25, help="frames per second of the films")
    parser.add_argument("--frames", type=int, default=16, help="that are asked about")
    parser.add_argument("--model", default="demo", help="demo, wide, or what `ipcv ask` takes")
    parser.add_argument("--blocks", type=int, default=32, help='of the encoder of "wide"')
    parser.add_argument("--max-pixels", type=int, help="of a frame that is asked about")
    parser.add_argument("--repeats", type=int, default=3)
    args, ours = parser.parse_known_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print(f"$ python {' '.join(sys.argv)}\nthreads: {torch.get_num_threads()}, torch {torch.__version__}")
    model = str(wide_model(args.folder, args.blocks)) if args.model == "wide" else args.model
    common = ["--model", model, "--max-frames", str(args.frames), "--max-new-tokens", "32"]
    common += ["--max-pixels", str(args.max_pixels)] if args.max_pixels else []
    for kind in args.films:
        film = still_film(args.folder, kind, seconds=round(args.minutes * 60), height=args.height, rate=args.rate)
        compare(film, kind, common, ours, args.repeats)


if __name__ == "__main__":
    main()
