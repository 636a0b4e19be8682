"""Measure whether the memory of `ipcv caption` grows over many clips.

Example: python examples/caption_memory.py --clips 500

Memory is sampled while it runs. The clips are copies of a few, with ids of their own. The slope is that of a straight
line through the samples after the first fifth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--model", default="demo")
    args = parser.parse_args()
    print(f"$ python {' '.join(sys.argv)}")
    ipcv = [sys.executable, "-m", "ipcv_cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*ipcv, "world", name, "--clips", "20", "-q"], check=True)  # noqa: S603
        manifest = [{"id": str(index), "video": f"clip-{index % 20:04}.mp4"} for index in range(args.clips)]
        (folder / "list.jsonl").write_text("\n".join(map(json.dumps, manifest)))
        output = folder / "captions.jsonl"
        words = ["caption", str(folder / "list.jsonl"), "-o", str(output), "--model", args.model, "-q"]
        process = psutil.Popen([*ipcv, *words])
        own, children, done = [], [], []
        while process.poll() is None:
            time.sleep(0.5)
            try:
                held = process.memory_info().rss / 2**20
                others = [child.memory_info().rss / 2**20 for child in process.children()]
            except psutil.NoSuchProcess:
                continue
            count = output.read_bytes().count(b"\n") if output.exists() else 0
            if count:
                own.append(held)
                children.append(sum(others))
                done.append(count)
        later = np.array(done) > args.clips / 5
        for label, values in (("main process", own), ("reader processes", children)):
            slope = np.polyfit(np.array(done)[later], np.array(values)[later], 1)[0]
            print(f"{label:18}{max(values):7.0f} MiB at most, {1000 * slope:+7.1f} KiB for each clip")
        print(f"{done[-1]} clips, exit code {process.returncode}")


if __name__ == "__main__":
    main()
