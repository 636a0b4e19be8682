"""The shell lines about many videos in `caption.md`, run as they stand."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import pytest
import webdataset

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ipcv_cli/commands/caption.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory, clips):
    """A folder with clips, and `ipcv` and the programs of this environment within reach."""
    folder = tmp_path_factory.mktemp("pipelines")
    shutil.copytree(clips, folder / "clips")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=lambda *_: ["benchmark.svg"])
    programs = folder / "bin"
    programs.mkdir()
    for name, line in {
        "ipcv": f'exec {shlex.quote(sys.executable)} -m ipcv_cli "$@"',
        "sqlite-utils": f'exec {shlex.quote(sys.executable)} -m sqlite_utils "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    return folder


def run(place, line, **changes):
    paths = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = ["bash", "-euo", "pipefail", "-c", line]
    done = subprocess.run(
        command, cwd=place, env=commands.environment(**paths, **changes), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines():
    block = PAGE.partition("<!-- pipelines -->")[2].partition("<!-- end of pipelines -->")[0]
    return [line for line in block.splitlines() if line and line[0] not in "#`"]


@pytest.mark.timeout(900)  # it starts the command line again and again
def test_every_line_does_what_it_says(place):
    table, new, insert, index, search, tar, array = lines()
    rows = [row.split("\t") for row in run(place, table).splitlines()]
    assert sorted(name for name, _ in rows) == [f"clips/{index}.mp4" for index in range(4)]
    assert run(place, new).split() == [f"clips/{index}.mp4" for index in range(4)]
    shutil.copy(place / "clips/0.mp4", place / "clips/new.mp4")
    assert run(place, new).split() == ["clips/new.mp4"]
    captions = {record["id"]: record["answer"] for record in map(json.loads, (place / "captions.jsonl").open())}
    assert len(captions) == 5
    run(place, insert)
    run(place, index)
    found = json.loads(run(place, search))
    assert {row["id"] for row in found} <= {
        name for name, text in captions.items() if "circle" in text or "square" in text
    }
    assert found or not any("circle" in text or "square" in text for text in captions.values())
    run(place, tar)
    samples = {
        sample["__key__"]: sample for sample in webdataset.WebDataset(str(place / "clips.tar"), shardshuffle=False)
    }
    assert {f"{key}.mp4": sample["txt"].decode().strip() for key, sample in samples.items()} == captions
    assert samples["clips/0"]["mp4"] == (place / "clips/0.mp4").read_bytes()
    assert array.startswith("sbatch --array=1-16 examples/caption.slurm clips/")


def test_an_array_of_jobs_does_every_video_once(place):
    for job in ("1", "2"):
        script = "sh examples/caption.slurm clips/ --model demo"
        run(place, script, SLURM_ARRAY_TASK_ID=job, SLURM_ARRAY_TASK_COUNT="2")
    found = [json.loads(line)["id"] for job in "12" for line in (place / f"captions-{job}.jsonl").open()]
    assert sorted(found) == sorted(str(path.relative_to(place)) for path in (place / "clips").glob("*.mp4"))
