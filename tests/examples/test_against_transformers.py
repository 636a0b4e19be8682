"""The comparison with transformers alone, in small: both halves do equal work, and a difference is told."""

import sys
from pathlib import Path

import av
import family_folders
import numpy as np
import pytest
import torch

from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))
import against_transformers  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / f"{against_transformers.MODEL}-28"
    model.mkdir()
    family_folders.save(family_folders.CASES["qwen2_vl"], model)
    return tmp_path


def once(run):
    """`run` that starts each half once, and gives what it found to later calls."""
    found = {}

    def run_once(half, *arguments):
        return found[half] if half in found else found.setdefault(half, run(half, *arguments))

    return run_once


def test_both_halves_see_and_compute_alike(folder, monkeypatch, capsys):
    arguments = ["--folder", str(folder), "--frames", "4", "--cameras", "still", "--pixels", "4000"]
    monkeypatch.setattr(against_transformers, "STILL", "drawn")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(against_transformers, "run", once(against_transformers.run))  # the table is of the same work
    monkeypatch.setattr(sys, "argv", ["against_transformers.py", *arguments, "--settings", "dense"])
    against_transformers.main()
    _, _, apart, _, heads, _, theirs, ours = capsys.readouterr().out.splitlines()
    assert apart.startswith("dense, apart by at most: visual ")
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (theirs, ours))
    assert len(first) == len(second) == heads.count("|") - 1
    assert (first[3], second[3]) == ("transformers", "dense")
    assert first[:3] == second[:3]  # frames and pixels
    assert first[4:6] == second[4:6]  # prompt and FLOPs
    assert first[8] == first[10] == "1.00"


def test_other_numbers_and_other_frames_are_told(monkeypatch):
    numbers = torch.ones(2, 3)
    assert against_transformers.largest_gap(numbers, numbers + 0.5) == 0.5
    with pytest.raises(SystemExit, match="shapes differ"):
        against_transformers.largest_gap(numbers, numbers[:1])
    arguments = against_transformers.parser().parse_args(["--settings", "dense"])
    sizes = {"transformers": [28, 56], "ipcv": [28, 28]}
    monkeypatch.setattr(against_transformers, "run", lambda half, *_: {"frames": 4, "size": sizes[half]})
    with pytest.raises(SystemExit, match=r"4 frames of \[28, 28\] were seen, not 4 of \[28, 56\]"):
        against_transformers.cell(Path(), Path(), 4, ["", "dense"], arguments)


def test_a_ride_goes_back_and_forth(tmp_path):
    write_clip(tmp_path / "ride.mp4", make_clip(7, fps=4))
    film = against_transformers.moving_film(tmp_path / "ride.mp4", tmp_path / "film.mp4", 3)
    with av.open(film) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    turn = len(make_clip(7, fps=4).times) - 1
    assert len(frames) == 3 * against_transformers.RATE
    assert np.abs(frames[turn - 2] - frames[turn + 2]).mean() < 3 < np.abs(frames[0] - frames[turn]).mean()
