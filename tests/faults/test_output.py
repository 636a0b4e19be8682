"""The output has no room, is read-only or is wanted by two runs at once: nothing is lost, torn or there twice."""

import random
import resource
import time
from functools import partial
from pathlib import Path
from subprocess import run as call

import pytest
from hardships import jumping_clock, limit, obey_permissions, small_disk
from runner import Run, complaints, lines
from undisturbed import FILES, Whole, twice


def one_line(run: Run, *codes: int) -> list[str]:
    """What is wrong with a run that had to end with one of `codes` and one line about an error."""
    errors = [line for line in run.err.splitlines() if line.startswith("ipcv: error: ")]
    wrong = complaints(run)
    if run.code not in codes or len(errors) != 1:
        wrong.append(f"exit code {run.code}, {run.err[-300:]!r}")
    return wrong


def fill(undisturbed: Whole, folder: Path, room: int) -> list[str]:
    """Files may become no larger than `room` bytes; then they may."""
    folder.mkdir()
    run = Run(undisturbed.words("--readers", "0"), folder, [partial(limit, resource.RLIMIT_FSIZE, room)])
    run.wait()
    return [*one_line(run, 1), *twice(folder), *undisturbed.finish(folder, "--readers", "0")]


def fill_disk(undisturbed: Whole, folder: Path, room: int) -> list[str]:
    """The whole disk has `room` bytes; then it has more. Where nothing can be mounted, as of `fill`."""
    folder.mkdir()
    with small_disk(folder / "disk", room) as is_there:
        if not is_there:
            return fill(undisturbed, folder / "limited", room)
        words = [*undisturbed.words()[:-2], "-o", f"disk/{FILES[0]}", "--readers", "0"]
        run = Run(words, folder)
        run.wait()
        wrong = one_line(run, 1)
        call(["mount", "-o", "remount,size=10m", str(folder / "disk")], check=True)
        return [*wrong, *twice(folder / "disk"), *undisturbed.finish(folder / "disk", "--readers", "0")]


def test_without_room_it_stops_and_goes_on_later(undisturbed, tmp_path, ledger):
    for turn, room in enumerate((1500, 5000)):
        ledger.judge("full disk", fill(undisturbed, tmp_path / str(turn), room))


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_without_room_at_any_byte_it_stops_and_goes_on_later(undisturbed, tmp_path, ledger):
    rng = random.Random(0)
    most = len(undisturbed.files[FILES[0]])
    for turn in range(20):
        ledger.judge("full disk", fill(undisturbed, tmp_path / f"file-{turn}", rng.randrange(1500, most)))
    for turn in range(10):
        room = rng.randrange(1, most // 4096) * 4096
        ledger.judge("full disk", fill_disk(undisturbed, tmp_path / f"disk-{turn}", room))


@pytest.mark.parametrize("what", ["folder", "file", "failures"])
def test_what_is_read_only_is_one_line(what, undisturbed, tmp_path, ledger):
    output = tmp_path / "output"
    output.mkdir()
    place = {"folder": output, "file": output / FILES[0], "failures": output / FILES[1]}[what]
    if what != "folder":
        place.touch()
    place.chmod(0o555 if place.is_dir() else 0o444)
    words = ["caption", str(undisturbed.videos), *undisturbed.words()[2:-2], "-o", f"output/{FILES[0]}"]
    run = Run([*words, "--readers", "0"], tmp_path, [obey_permissions])
    run.wait()
    place.chmod(0o755)
    wrong = [*one_line(run, 1, 2), *twice(output), *undisturbed.finish(output, "--readers", "0")]
    ledger.judge("read-only output", wrong)


def compete(undisturbed: Whole, folder: Path, rng: random.Random) -> list[str]:
    """Two runs with one output, the second begun while the first one works."""
    folder.mkdir()
    first = Run(undisturbed.words("--readers", "0"), folder)
    time.sleep(rng.uniform(0, undisturbed.seconds))
    second = Run(undisturbed.words("--readers", "0"), folder)
    codes = sorted((first.wait(), second.wait()))
    wrong = [*complaints(first), *complaints(second), *undisturbed.differences(folder)]
    if codes not in ([1, 3], [3, 3]):
        wrong.append(f"exit codes {codes}")
    return wrong


def test_of_two_runs_at_once_one_writes(undisturbed, tmp_path, ledger):
    ledger.judge("two runs at once", compete(undisturbed, tmp_path / "both", random.Random(0)))


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_of_two_runs_at_once_one_writes_whenever_they_begin(undisturbed, tmp_path, ledger):
    for turn in range(12):
        ledger.judge("two runs at once", compete(undisturbed, tmp_path / str(turn), random.Random(turn)))


def jump(undisturbed: Whole, folder: Path, seed: int) -> list[str]:
    """The clock jumps in the first run, which is killed, and otherwise in the second one."""
    folder.mkdir()
    first = Run(undisturbed.words("--readers", "0"), folder, [partial(jumping_clock, seed)])
    first.wait_for(lambda: bool(lines(folder / FILES[0])))
    first.kill()
    second = Run(undisturbed.words("--readers", "0"), folder, [partial(jumping_clock, seed + 1)])
    second.wait()
    return [*complaints(first), *complaints(second), *undisturbed.differences(folder)]


def test_a_clock_that_jumps_changes_nothing(undisturbed, tmp_path, ledger):
    ledger.judge("clock jump", jump(undisturbed, tmp_path / "0", 0))


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_clock_that_jumps_often_changes_nothing(undisturbed, tmp_path, ledger):
    for seed in range(1, 11):
        ledger.judge("clock jump", jump(undisturbed, tmp_path / str(seed), 10 * seed))
