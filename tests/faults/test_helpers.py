"""Readers and Ray actors are killed, and videos vanish, while a run needs them."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import commands
import psutil
import pytest
from runner import Run, complaints, lines
from undisturbed import FILES, Whole, twice

ENDED = "the process that read it ended with code -9"


def kill_readers(undisturbed: Whole, folder: Path, most: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kill up to `most` readers at random moments; how many that were, and what is wrong after one more run."""
    folder.mkdir()
    run = Run(undisturbed.words("--batch-size", "2"), folder)
    killed = 0
    while run.process.is_alive() and killed < most:
        run.process.join(rng.uniform(0, undisturbed.seconds))
        for reader in rng.sample(run.readers(), k=len(run.readers()))[:1]:
            with suppress(psutil.Error):
                reader.kill()
                killed += 1
    run.wait()
    wrong = [*complaints(run), *twice(folder)]
    failed = [each for each in lines(folder / FILES[1]) if ENDED in each["message"]]
    if len(failed) > killed:
        wrong.append(f"{killed} readers killed, {len(failed)} videos failed")
    again = Run(undisturbed.words("--retry-failed"), folder)
    again.wait()
    return killed, [*wrong, *complaints(again), *twice(folder), *undisturbed.missing(folder)]


def test_a_killed_reader_costs_its_video_at_most(undisturbed, tmp_path, ledger):
    killed, wrong = kill_readers(undisturbed, tmp_path / "0", 3, random.Random(0))
    ledger.judge("killed reader", wrong, killed)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_killed_readers_cost_their_videos_at_most(undisturbed, tmp_path, ledger):
    for turn in range(1, 13):
        killed, wrong = kill_readers(undisturbed, tmp_path / f"{turn}", 4, random.Random(turn))
        ledger.judge("killed reader", wrong, killed)


def vanish(undisturbed: Whole, folder: Path, readers: int, rng: random.Random) -> tuple[int, list[str]]:
    """Some of the videos are removed while the run works, and are there again for the next."""
    folder.mkdir()
    own = folder / "videos"
    shutil.copytree(undisturbed.videos, own)
    names = rng.sample(sorted(path.name for path in own.iterdir()), k=3)
    words = [str(own) if word == str(undisturbed.videos) else word for word in undisturbed.words()]
    run = Run([*words, "--batch-size", "1", "--readers", str(readers)], folder)
    if rng.random() < 0.5:
        run.wait_for(lambda: bool(lines(folder / FILES[0])))
    else:
        run.process.join(rng.uniform(0, undisturbed.seconds))
    for name in names:
        (own / name).unlink()
    run.wait()
    wrong = [*complaints(run), *twice(folder)]
    failed = {Path(each["id"]).name for each in lines(folder / FILES[1])} - {"notes.mp4"}
    if not failed <= set(names):
        wrong.append(f"failed: {failed}, vanished: {names}")
    shutil.copytree(undisturbed.videos, own, dirs_exist_ok=True)
    again = Run([*words, "--retry-failed"], folder)
    again.wait()
    wrong += [*complaints(again), *twice(folder)]
    found = {Path(each["id"]).name: each["answer"] for each in lines(folder / FILES[0])}
    right = {
        Path(each["id"]).name: each["answer"] for each in map(json.loads, undisturbed.files[FILES[0]].splitlines())
    }
    return len(names), wrong + [f"{name} is another answer" for name in right if found.get(name) != right[name]]


def test_a_vanished_video_fails_alone(undisturbed, tmp_path, ledger):
    count, wrong = vanish(undisturbed, tmp_path / "0", 0, random.Random(1))
    ledger.judge("vanished input", wrong, count)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_vanished_videos_fail_alone(undisturbed, tmp_path, ledger):
    for turn in range(2, 12):
        count, wrong = vanish(undisturbed, tmp_path / f"{turn}", turn % 2, random.Random(turn))
        ledger.judge("vanished input", wrong, count)


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_killed_actors_cost_nothing(undisturbed, tmp_path, monkeypatch, ledger):
    """Of a cluster of two, one is killed every few seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    words = undisturbed.words("--engine", "ray", "--actors", "2", "--readers", "0", "--batch-size", "1")
    with Path("err").open("wb") as errors:
        process = commands.start(*words, stderr=errors)
    rng, killed, until = random.Random(0), 0, time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        workers = actors(process.pid)
        if len(workers) == 2 and killed < 3:
            time.sleep(rng.uniform(0, 3))
            with suppress(psutil.Error):
                rng.choice(workers).kill()
                killed += 1
        time.sleep(0.2)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    wrong = [line for line in Path("err").read_text().splitlines() if "Traceback" in line]
    ledger.judge("killed Ray actor", [*wrong, *twice(tmp_path), *undisturbed.missing(tmp_path)], max(killed, 1))
    assert killed


def actors(number: int) -> list[psutil.Process]:
    """The workers of the cluster that a process has started."""
    found = []
    with suppress(psutil.Error):
        for each in psutil.Process(number).children(recursive=True):
            with suppress(psutil.Error):
                found += [each] * each.name().startswith("ray::Worker")
    return found
