"""Kill `ipcv caption` (SIGKILL) at random moments, start it again, and compare with an undisturbed run, byte for byte.

Example: python examples/kill_caption.py --kills 30

A third of the kills come before the run has written anything, the others at a random moment after its first new line.
A round starts without output and ends when a run has finished; rounds go on until there were enough kills.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "ipcv_cli", "caption", "clips", "--model", "demo", "--quiet", "--sidecar", "txt"]
COMMAND += ["--batch-size", "2"]
FILES = ("captions.jsonl", "failures.jsonl")


def start(folder: Path, output: str) -> "subprocess.Popen[bytes]":
    command = [*COMMAND, "--output-dir", output]
    paths = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.DEVNULL)  # noqa: S603


def wait_for_growth(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Return when a file becomes larger, or the process has ended."""
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (path.stat().st_size if path.exists() else 0) <= before:
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix != ".lock"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print(f"$ python {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = [sys.executable, "-m", "ipcv_cli", "world", "clips", "--clips", str(args.clips), "--seed", "5", "-q"]
        subprocess.run(world, cwd=folder, check=True)  # noqa: S603
        (folder / "clips/bad.mp4").write_text("This is no video.\n")
        began = time.monotonic()
        process = start(folder, "whole")
        wait_for_growth(folder / "whole" / FILES[0], process)
        first = time.monotonic() - began
        process.wait()
        rest = time.monotonic() - began - first
        expected = contents(folder / "whole")
        kills, rounds, progress, same = 0, 0, 0, True
        while kills < args.kills:
            rounds += 1
            output = folder / f"killed-{rounds}"
            code = None
            while code is None:
                before = (output / FILES[0]).stat().st_size if (output / FILES[0]).exists() else 0
                process = start(folder, output.name)
                if late := rng.random() < 2 / 3:
                    wait_for_growth(output / FILES[0], process)
                try:
                    code = process.wait(rng.uniform(0.0, (rest / 3 if late else first)))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    progress += (output / FILES[0]).exists() and (output / FILES[0]).stat().st_size != before
            same = same and contents(output) == expected
        print(f"{kills} kills in {rounds} rounds of {args.clips + 1} videos, {progress} of them after new lines")
        print(f"all files as those of an undisturbed run: {'yes' if same else 'NO'}")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
