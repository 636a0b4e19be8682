"""Measure the memory of `ipcv ask` by the length of a video, each answer in a process of its own.

Example: python examples/long_video.py --minutes 7.5 60

The videos are made on the spot: a scene of the demo world, played back and forth at four frames per second, of which
one is sampled. Further options are those of `ipcv ask`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av

from ipcv.world.random_scene import make_clip
from ipcv.world.scene import HELD_OUT_SEEDS

RATE = 4  # frames per second of the file


def write_video(path: Path, seconds: int) -> None:
    """One scene, forwards and backwards, over and over."""
    clip = make_clip(HELD_OUT_SEEDS[-568], fps=RATE)
    frames = [*clip.frames, *clip.frames[-2:0:-1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index in range(seconds * RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[index % len(frames)], format="rgb24")))
        container.mux(stream.encode(None))


def resident(process: int, field: str) -> float:
    """MiB of a process that are in memory now (`VmRSS`), or were at most (`VmHWM`)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def ask(path: Path, frames: int, options: list[str]) -> tuple[dict[str, Any], list[float], float, float]:
    """The answer, MiB in memory after each quarter of the frames, the peak, and seconds."""
    command = [sys.executable, "-m", "ipcv_cli", "ask", str(path), "What colour is the circle?", "--model", "demo"]
    command += ["--fps", "1", "--max-frames", str(frames), "--json-stream", "--quiet", *options]
    began, curve, peak = time.perf_counter(), [], 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            event = json.loads(line)
            if event["event"] == "frame_batch" and event["frames_done"] * 4 >= (len(curve) + 1) * event["frames"]:
                curve.append(resident(process.pid, "VmRSS"))
            if event["event"] == "stage" and event["stage"]["name"] == "generate":
                peak = resident(process.pid, "VmHWM")
    if process.returncode:
        sys.exit(process.returncode)
    return event["answer"], curve, peak, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[7.5, 15, 30, 60])
    args, options = parser.parse_known_args()  # the others are for `ipcv ask`
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{'':28}{'visual tokens':>18}{'resident after a quarter, half, ...':>40}")
    print(f"{'minutes':>8}{'asked':>10}{'frames':>10}{'asked':>9}{'prompt':>9}{'MiB':>40}{'peak':>8}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            path = Path(folder) / "video.mp4"
            frames = round(minutes * 60)
            write_video(path, frames)
            answer, curve, peak, seconds = ask(path, frames, options)
            seen = answer["frames"]
            print(
                f"{minutes:8g}{frames:10}{len(seen['times']):10}{answer['budget']['asked']:9}{seen['visual_tokens']:9}"
                f"{' '.join(f'{each:.0f}' for each in curve):>40}{peak:8.0f}{seconds:9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
