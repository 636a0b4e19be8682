"""Memory of reading and encoding is bounded: several times the frames, next to nothing more."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_cases import CASES

from ipcv import IPCV
from ipcv.compression.compressors.reuse import Carried
from ipcv.families import find_language
from ipcv.limits.memory_estimate import Sizes

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


def carried_bytes():
    """Bytes of each state that some pass left for the next one."""
    gc.collect()
    states = [each for each in gc.get_objects() if isinstance(each, Carried)]
    return [
        sum(part.untyped_storage().nbytes() for part in (each.pixels.computed, each.pixels.whole, *each.rows.values()))
        for each in states
    ]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision"])
@torch.no_grad()
def test_what_is_carried_from_pass_to_pass_is_bounded_counted_and_freed(name):
    case = CASES[name]
    model = case.build()
    language, grid = find_language(model.config.model_type), (3, *case.grid[1:])
    sizes = Sizes(
        plain=0,
        linear=0,
        vision=language.vision(model.config),
        text=language.decoder(model.config.get_text_config()),
        context=1,
    )
    assert carried_bytes() == []
    with IPCV(keep=0.5, layer=1, reuse=0.05)(model, video=True) as kept:
        for seed in range(4):
            language.encode(model, case.input([grid], seed), grid)
        held = carried_bytes()
    assert len(kept) == 4
    assert len(held) == 1
    assert 0.9 < 2 * sum(held) / sizes.carried(4, grid[1] * grid[2]) <= 1  # in a pass the next state is beside it
    assert carried_bytes() == []
