"""Memory of reading and encoding is bounded: several times the frames, next to nothing more."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples/memory.py"


def test_peak_memory_does_not_grow_with_the_video():
    command = [sys.executable, str(SCRIPT), "--frames", "64", "320", "--size", "240", "320"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    few, many = (list(map(float, row.split())) for row in table.splitlines()[2:])
    assert (few[0], many[0]) == (64, 320)
    decoded = (320 - 64) * 240 * 320 * 3 / 2**20  # MiB: what holding the decoded frames would add
    assert many[2] - few[2] < 0.4 * decoded


def test_peak_memory_of_an_answer_does_not_grow_with_the_video():
    script = SCRIPT.parent / "long_video.py"
    command = [sys.executable, str(script), "--minutes", "1", "4", "--max-visual-tokens", "400"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    short, long = (list(map(float, row.split())) for row in table.splitlines()[3:])
    assert (short[:2], long[:2]) == ([1, 60], [4, 240])
    assert (short[3], long[3]) == (750, 3000)  # visual tokens of all frames
    assert max(short[4], long[4]) <= 400  # of the prompt
    peaks = [row[-2] for row in (short, long)]
    assert peaks[1] - peaks[0] < 20  # MiB
