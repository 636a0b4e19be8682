"""Settings for the memory that is free: chosen from sizes alone, and then enough for real."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import commands
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ipcv import IPCV, MemoryExhaustedError, Options, fit_to_device
from ipcv.architecture.preprocess import PatchSettings
from ipcv.architecture.shapes import TextShape, VisionShape
from ipcv.limits.fit import SPARE, fit
from ipcv.limits.free_memory import _groups, free_memory
from ipcv.limits.memory_estimate import Sizes
from ipcv.models.hub import find_folder
from ipcv.models.source import read_config
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"
SEVEN_B = Sizes(  # Qwen2-VL-7B
    plain=1_770_000_000,
    linear=6_520_000_000,
    vision=VisionShape(blocks=32, width=1280, heads=16, mlp_width=5120, patch_values=1176, merge=4, out_width=3584),
    text=TextShape(
        layers=28, width=3584, query_width=3584, key_width=512, heads=28, mlp_width=18944, vocabulary=152064
    ),
    context=32768,
)
QUANTS = ["none", "8bit", "4bit"]
LIMITED = """
import json, resource, sys
import numpy as np
import torch
import ipcv
from ipcv.world.random_scene import make_clip

def size(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))

torch.set_num_threads(1)
scene = make_clip(int(sys.argv[1]))
frames = ipcv.TimedFrames(np.repeat(scene.frames, 32, axis=0), [place / 64 for place in range(32 * len(scene.frames))])
wanted = ipcv.Options(frame_batch=512)
ipcv.load("demo", quant="4bit", offline=True).ask(frames, "What colour is the circle?", wanted)
before = size("VmSize")
limit = before + (size("VmPeak") - before) * 3 // 4
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = ipcv.fit_to_device("demo", wanted, offline=True)
model = ipcv.load("demo", quant=found.quant, offline=True)
fitted = model.ask(frames, "What colour is the circle?", found.options)
other = model.ask(frames, "What colour is the circle?", wanted)
print(json.dumps([found.why, found.options.frame_batch, fitted.warnings, other.warnings]))
"""


def chosen(gibibytes, options=None, quants=QUANTS):
    found = fit(int(gibibytes * 2**30), SEVEN_B, options or Options(), PatchSettings(), 2, quants)
    return found.options, found.quant


def test_with_plenty_of_memory_nothing_is_changed():
    assert chosen(80) == (Options(), "none")


def test_weights_are_quantised_before_much_is_lowered_and_no_more_than_needed():
    assert [chosen(free)[1] for free in (80, 24, 16, 12)] == ["none", "none", "8bit", "4bit"]
    assert chosen(12)[0].max_visual_tokens > 4096


def test_what_was_asked_for_is_never_exceeded():
    options = Options(frame_batch=4, max_pixels=100_000, max_visual_tokens=300)
    assert chosen(80, options) == (options, "none")
    assert chosen(80, options, ["4bit"]) == (options, "4bit")


def test_a_large_frame_batch_is_halved_and_then_pixels_are():
    options, _ = chosen(10, Options(frame_batch=512), ["4bit"])
    assert 2 <= options.frame_batch < 512
    options, _ = chosen(10, Options(max_pixels=4_000_000, frame_batch=64), ["4bit"])
    assert (options.frame_batch, options.max_pixels) == (2, 4_000_000) or options.max_pixels < 4_000_000


def test_what_is_carried_from_batch_to_batch_counts_where_patches_are_reused():
    assert SEVEN_B.carried(2, 1024) // 2 == 1024 * (2 * 66 * 1280 + 2 * 4 * 1176)  # 183 MB for a slice of 448 px
    reusing, computing = (Options(compressor=IPCV(reuse=reuse), max_pixels=1_500_000) for reuse in (0.03, 0))
    patches = 8 * -(-1_500_000 // 14**2)
    weights = SEVEN_B.weights(2, "4bit")
    free = (2 * SEVEN_B.encoding(2, patches) + weights + 2**20) / SPARE / 2**30
    assert chosen(free, computing, ["4bit"])[0].frame_batch == 16
    assert chosen(free, reusing, ["4bit"])[0].frame_batch < 16


def test_what_cannot_fit_says_what_would():
    with pytest.raises(MemoryExhaustedError, match=r"the weights take 6\.\d\d GiB, .* 4\.00 GiB that are free"):
        chosen(4)


@given(free=st.floats(9, 60), batch=st.integers(1, 200), pixels=st.integers(10_000, 5_000_000))
def test_what_is_chosen_fits_by_its_own_count(free, batch, pixels):
    options = Options(frame_batch=2 * batch, max_pixels=pixels)
    try:
        found, quant = chosen(free, options)
    except MemoryExhaustedError:
        return
    left = free * 2**30 * SPARE - SEVEN_B.weights(2, quant)
    patches = found.frame_batch // 2 * found.max_pixels / 14**2
    assert found.frame_batch % 2 == 0
    carried = SEVEN_B.carried(2, int(found.max_pixels / 14**2))
    assert SEVEN_B.encoding(2, int(patches)) + carried <= left
    assert SEVEN_B.prompting(2, found.max_visual_tokens or SEVEN_B.context) <= left
    assert (found.frame_batch, found.max_pixels) <= (options.frame_batch, options.max_pixels)


def test_less_memory_never_means_more_work():
    found = [chosen(free, quants=["4bit"])[0] for free in (9, 10, 12, 16, 24)]
    tokens = [options.max_visual_tokens or SEVEN_B.context for options in found]
    assert tokens == sorted(tokens)
    assert [options.frame_batch for options in found] == sorted(options.frame_batch for options in found)


def test_sizes_are_those_of_the_weights(demo):
    folder = find_folder("demo")
    sizes = Sizes.of(folder, read_config(folder))
    network = demo.loaded.network
    linear = [module for module in network.get_decoder().layers.modules() if isinstance(module, torch.nn.Linear)]
    assert sizes.plain + sizes.linear == network.num_parameters()
    assert sizes.linear == sum(module.weight.numel() for module in linear)
    assert sizes.context == 8192


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/jobs/mine", {"jobs/mine/memory.max": "max", "jobs/memory.max": "3000", "jobs/memory.current": "1000"}),
        (
            "4:memory:/mine",
            {"memory/mine/memory.limit_in_bytes": "3000", "memory/mine/memory.usage_in_bytes": "1000"},
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_a_containers_limit_counts_without_what_it_can_drop(line, files, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).with_name("memory.stat").write_text("anon 900\ninactive_file 100\n")
    (tmp_path / "own").write_text(f"{line}\n")
    assert list(_groups(tmp_path, tmp_path / "own")) == [(2100, "of this container's limit")]


def test_free_memory_is_no_more_than_there_is():
    free, origin = free_memory(torch.device("cpu"))
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free < total
    assert origin.startswith("of this ")


def test_under_a_real_limit_what_fits_runs_without_running_out_and_what_does_not_runs_out():
    """The limit is three quarters of what was measured to be needed."""
    command = [sys.executable, "-c", LIMITED, str(2**32 - 568)]
    environment = commands.environment(MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    why, batch, fitted, other = json.loads(done.stdout.splitlines()[-1])
    assert "of this process's limit that are free" in why
    assert f"{batch} frames at a time" in why
    assert 2 <= batch < 512
    assert not [warning for warning in fitted if "memory ran out" in warning]
    assert [warning for warning in other if "memory ran out" in warning]


def test_it_says_what_it_chose_and_why(clip, truth, capsys):
    assert main(["ask", str(clip), COLOUR, "--model", "demo", "--fit", "--json", "--frame-batch", "4"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["answer"] == truth[COLOUR]
    assert found["settings"]["frame_batch"] == 4
    (told,) = (warning for warning in found["warnings"] if warning.startswith("fitted to "))
    assert "GiB of this " in told
    assert "4 frames at a time, the model's whole context" in told
    assert f"ipcv: warning: {told}\n" in err


def test_the_library_offers_it():
    found = fit_to_device("demo", replace(Options(), max_visual_tokens=77), quant="8bit", offline=True)
    assert (found.quant, found.options.max_visual_tokens) == ("8bit", 77)
