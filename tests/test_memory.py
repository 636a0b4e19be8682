"""Memory of reading and encoding is bounded: eight times the frames, next to nothing more."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "examples/memory.py"


def test_peak_memory_does_not_grow_with_the_video():
    command = [sys.executable, str(SCRIPT), "--frames", "64", "512", "--size", "240", "320"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    few, many = (list(map(float, row.split())) for row in table.splitlines()[2:])
    assert (few[0], many[0]) == (64, 512)
    decoded = (512 - 64) * 240 * 320 * 3 / 2**20  # MiB: what holding the decoded frames would add
    assert many[2] - few[2] < 0.4 * decoded
