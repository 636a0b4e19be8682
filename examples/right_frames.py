"""Read random frames of many kinds of file, and count the wrong ones; then time decord, PyAV and ipcv.

    python examples/right_frames.py                      # 10,000 frames
    python examples/right_frames.py --frames 500 --no-speed

Each frame of these files shows its number. A frame that was handed out for a time is right if it is the one on display
then: by ffmpeg's own decoding where the program is installed, else by the numbers that were written. In the second
table, passes take turns, times are medians, and `decord` is there where it is installed (`pip install decord2`).
"""

import argparse
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numbered_films import RATE, SIZE, films, number_in

from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling, choose
from ipcv.media.video.probe import probe

WIDTH, HEIGHT, SECONDS = 960, 540, 60  # of the film that is timed
TARGET = 252, 448  # height, width
PATTERNS = {
    "2 a second": Sampling(max_frames=512),
    "32 in all": Sampling(max_frames=32),
    "4 in all": Sampling(max_frames=4),
    "each of 10 s": Sampling(fps=30, start=20, end=30, max_frames=512),
}


def by_ffmpeg(path: Path) -> list[int] | None:
    """The number of each frame that the ffmpeg program decodes, in its order; None where it is not installed."""
    if not shutil.which("ffmpeg"):
        return None
    height, width = SIZE
    form = ["-vsync", "passthrough", "-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:v:0", *form]
    raw = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 - a fixed program
    return [number_in(picture) for picture in np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)]


def random_sampling(dice: random.Random, seconds: float) -> Sampling:
    start = dice.uniform(0, 0.8) * seconds if dice.random() < 0.7 else None
    end = None if dice.random() < 0.4 else (start or 0) + dice.uniform(0.5, 1) * seconds
    return Sampling(
        fps=dice.choice([0.7, 2, 3, 7.5, 15, 30]), start=start, end=end, max_frames=dice.choice([6, 20, 64])
    )


def wrong_frames(path: Path, numbers: list[int], frames: int, dice: random.Random) -> tuple[int, int]:
    """Read at least as many frames of a file in random clips; count them, and those that are wrong."""
    times = [round(index / RATE, 6) for index in range(len(numbers))]
    read = wrong = 0
    while read < frames:
        with open_video(path, random_sampling(dice, times[-1]), frame_batch=4) as clip:
            found = [number_in(picture) for batch in clip for picture in batch]
            right = [numbers[max(bisect_right(times, moment + 2e-3) - 1, 0)] for moment in clip.times]
        read += len(found)
        wrong += sum(one != other for one, other in zip(found, right, strict=True))
    return read, wrong


def check(frames: int, count: int, seed: int) -> int:
    """Print how many frames of each kind are wrong; return how many in all."""
    dice, wrong, read = random.Random(seed), 0, 0
    print(f"{'kind':34}{'frames':>8}{'wrong':>8}   ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        made = list(films(Path(folder), count))
        for name, path, numbers in made:
            theirs = by_ffmpeg(path)
            told = "-" if theirs is None else "agrees" if theirs == numbers else f"decodes {len(theirs)}"
            done, bad = wrong_frames(path, numbers, -(-frames // len(made)), dice)
            read, wrong = read + done, wrong + bad
            print(f"{name:34}{done:8}{bad:8}   {told}", flush=True)
    print(f"{'all':34}{read:8}{wrong:8}")
    return wrong


def film_to_time(path: Path) -> Path:
    """A minute of a noisy pattern that moves, in groups of 250 frames with B-frames."""
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT * 2, WIDTH * 2, 1), dtype=np.uint8)
    ramp = (np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] + [0, 85, 170]) % 196
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for count in range(SECONDS * 30):
            moved = (
                np.roll(ramp, 3 * count, axis=1).astype(np.uint8)
                + noise[count % 500 :, count * 7 % 900 :][:HEIGHT, :WIDTH]
            )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def ours(path: Path, positions: list[int], sampling: Sampling) -> None:
    with open_video(path, sampling, resize=lambda *_: TARGET) as clip:
        assert sum(map(len, clip)) == len(positions)  # noqa: S101


def plain_pyav(path: Path, positions: list[int], _: Sampling) -> None:
    """Decode up to the last wanted frame, in threads."""
    wanted, (height, width) = set(positions), TARGET
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
            if position == positions[-1]:
                break


def decord_alone(path: Path, positions: list[int], _: Sampling) -> None:
    import decord

    height, width = TARGET
    decord.VideoReader(str(path), width=width, height=height).get_batch(positions).asnumpy()


def compare(repeats: int) -> None:
    """Print how long each reader takes for frames at several places, and its time as a multiple of ipcv's."""
    readers: dict[str, Callable[[Path, list[int], Sampling], None]] = {"ipcv": ours, "PyAV": plain_pyav}
    with suppress(ImportError):
        import torch  # noqa: F401 - some builds crash when decord is imported before torch
        import decord  # noqa: F401 # isort: skip

        readers["decord"] = decord_alone
    print(f"\n{'frames':24}" + "".join(f"{name:>16}" for name in readers) + "   seconds (× ipcv's)")
    with tempfile.TemporaryDirectory() as folder:
        path = film_to_time(Path(folder) / "film.mp4")
        video = probe(path)
        for name, sampling in PATTERNS.items():
            positions = list(choose(video.times.tolist(), sampling, duration=video.facts.duration).positions)
            taken: dict[str, list[float]] = {reader: [] for reader in readers}
            for _ in range(repeats):
                for reader, read in readers.items():
                    started = time.perf_counter()
                    read(path, positions, sampling)
                    taken[reader].append(time.perf_counter() - started)
            medians = {reader: statistics.median(times) for reader, times in taken.items()}
            cells = (f"{median:8.2f} ({median / medians['ipcv']:4.2f})" for median in medians.values())
            print(f"{name + ', ' + str(len(positions)):24}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="to read in all, at least")
    parser.add_argument("--length", type=int, default=400, help="frames of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-speed", action="store_true")
    asked = parser.parse_args()
    wrong = check(asked.frames, asked.length, asked.seed)
    if not asked.no_speed:
        compare(asked.repeats)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
