"""Time `ipcv ask` and `ipcv caption` with one thread and with the threads that ipcv takes, alone and beside busy loops.

Example: python examples/threads.py

The two settings take turns. Starting Python and loading the model are left out: an answer's time is that of its stages,
and captions are timed from the first to the last. A busy loop runs on each processor. `--spinning` also shows torch's
own way, whose threads spin as they wait.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipcv.processors import usable_processors

CLIP = Path(__file__).parent / "clip.mp4"
SETTINGS = {"one thread": {"OMP_NUM_THREADS": "1"}, "ipcv": {}, "spinning": {"OMP_WAIT_POLICY": "active"}}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # none of them from outside


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds(setting: str, arguments: list[str]) -> float:
    """Seconds of all stages of an answer; of captions, seconds from the first one to the last."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS} | SETTINGS[setting]
    command = [sys.executable, "-m", "ipcv_cli", *arguments, "--model", "demo", "--json", "--quiet"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        lines = [(line, time.perf_counter()) for line in process.stdout or ()]
    if process.returncode or not lines:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
    if arguments[0] == "ask":
        return sum(stage["seconds"] for stage in json.loads("".join(line for line, _ in lines))["stages"])
    return lines[-1][1] - lines[0][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clips", type=int, default=8, help="for caption")
    parser.add_argument("--spinning", action="store_true")
    args = parser.parse_args()
    settings = [name for name in SETTINGS if name != "spinning" or args.spinning]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.clips):
            shutil.copy(CLIP, Path(folder) / f"{number}.mp4")
        commands = {
            "ask": ["ask", str(CLIP), "Describe the video."],
            "caption": ["caption", folder, "--batch-size", "1"],
        }
        print(f"processors: {usable_processors()}; medians of {args.repeats}, seconds; in brackets: against one thread")
        print(f"{'command':10}{'beside':14}" + "".join(f"{name:>18}" for name in settings))
        for loops in (0, usable_processors()):
            for name, arguments in commands.items():
                found: dict[str, list[float]] = {setting: [] for setting in settings}
                with busy_loops(loops):
                    for turn in range(args.repeats):
                        for setting in settings if turn % 2 else reversed(settings):
                            found[setting].append(seconds(setting, arguments))
                medians = {setting: statistics.median(times) for setting, times in found.items()}
                cells = [f"{each:.2f} ({each / medians['one thread']:.2f}×)" for each in medians.values()]
                beside = f"{loops} busy loops" if loops else "nothing"
                print(f"{name:10}{beside:14}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
