"""Time `ipcv caption` against `ask` in a loop with the model loaded, and against starting `ipcv ask` for every clip.

Example: python examples/caption_speed.py --clips 50 --starts 5

The first two take turns in one process, with the reader processes started beforehand. They do equal work, and their
answers are compared. Starting `ipcv ask` is timed for a few clips and multiplied.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ipcv
from ipcv.batch.captioner import Captioner
from ipcv.batch.inputs import collect
from ipcv.batch.items import Item
from ipcv.batch.plan import Captioned, Plan, describe
from ipcv.readers.pool import Readers

QUESTION = "Describe the video."


def caption(model: ipcv.Model, items: list[Item], readers: Readers, batch_size: int) -> tuple[float, list[str]]:
    """Seconds, and the answers."""
    captioner = Captioner(model, Plan(), readers, batch_size=batch_size)
    began = time.perf_counter()
    outcomes = captioner.run(describe(captioner.plan, captioner.identity, item) for item in items)
    answers = [part.answer.answer for each in outcomes if isinstance(each, Captioned) for part in each.parts]
    return time.perf_counter() - began, answers


def ask(model: ipcv.Model, items: list[Item]) -> tuple[float, list[str]]:
    began = time.perf_counter()
    answers = [model.ask(item.video, QUESTION).answer for item in items]
    return time.perf_counter() - began, answers


def run(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ipcv_cli", *words], check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3, help="clips for which `ipcv ask` is started")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", default="demo")
    args = parser.parse_args()
    print(f"$ python {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("world", str(folder), "--clips", str(args.clips), "--seed", "7", "-q")
        items = collect([name], take=["*.mp4"])
        model = ipcv.load(args.model)
        rows = []
        with Readers(args.readers, 4) as readers:
            expected = caption(model, items[:8], readers, args.batch_size)[1]
            same = ask(model, items[:8])[1] == expected
            for _ in range(args.repeats):
                (fast, found), (slow, truth) = caption(model, items, readers, args.batch_size), ask(model, items)
                rows.append((fast, slow))
                same = same and found == truth
        for fast, slow in rows:
            print(f"caption {fast:7.2f} s   ask in a loop {slow:7.2f} s   {slow / fast:5.2f} times as fast")
        print(f"median {statistics.median(slow / fast for fast, slow in rows):.2f}, the same answers: {same}")
        if args.starts:
            whole = run("caption", name, "--model", args.model, "-o", str(folder / "captions.jsonl"))
            each = [run("ask", item.video, QUESTION, "--model", args.model) for item in items[: args.starts]]
            many = statistics.mean(each) * len(items)
            many_words = f"{len(items)} x ipcv ask {many:7.1f} s"
            print(f"ipcv caption {whole:7.2f} s   {many_words}   {many / whole:5.2f} times as fast")


if __name__ == "__main__":
    main()
