"""Runs that are ended at random moments and started again: in the end, all is as if nobody had disturbed them."""

import random
import signal
import time
from pathlib import Path

import commands
import psutil
import pytest
from ledger import Ledger
from runner import Run, complaints
from undisturbed import FILES, Whole, left_behind, twice

NUMBERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130}}  # -15: before its first line runs
ENDED = {3}  # there is a file that fails


def disturb(
    undisturbed: Whole, folder: Path, number: signal.Signals, most: int, rng: random.Random
) -> tuple[int, list[str]]:
    """Send a signal at a random moment to one run after the other, until one comes to its end or `most` were sent.

    How many that were, and what was wrong.
    """
    folder.mkdir()
    wrong: list[str] = []
    for sent in range(most):
        run = Run(undisturbed.words("--batch-size", "2", "--readers", str(rng.choice((0, 0, 1)))), folder)
        readers = wait(run, undisturbed, rng)
        run.send(number)
        code = run.wait(30)
        wrong += [f"{folder}, {number.name} {sent}: {each}" for each in [*complaints(run), *twice(folder)]]
        if code in ENDED:
            return sent, wrong + undisturbed.differences(folder)
        if code not in CODES[number]:
            wrong.append(f"{folder}, {number.name} {sent}: exit code {code}")
        _, alive = psutil.wait_procs(readers, 20)  # one that has just been started finds out when it has its imports
        wrong += [f"{folder}: a reader outlives its run" for _ in alive]
    return most, [*wrong, *undisturbed.finish(folder)]


def wait(run: Run, undisturbed: Whole, rng: random.Random) -> list[psutil.Process]:
    """Wait for a random moment, of three two after the run has written something; give the readers of then."""
    output = run.folder / FILES[0]
    before = size(output)
    if rng.random() < 2 / 3 and run.wait_for(lambda: size(output) > before):
        run.process.join(rng.uniform(0, undisturbed.seconds - undisturbed.first))
    else:
        run.process.join(rng.uniform(0, undisturbed.first))
    return run.readers()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def rounds(undisturbed: Whole, folder: Path, most: int, seed: int, ledger: Ledger, bound: float) -> None:
    """At least `most` signals of all kinds, or as many as fit into `bound` seconds."""
    until, sent, turn = time.monotonic() + bound, 0, 0
    while sent < most and time.monotonic() < until:
        number = NUMBERS[turn % len(NUMBERS)]
        rng = random.Random(f"{seed} {turn}")
        count, wrong = disturb(undisturbed, folder / f"round-{turn}", number, min(6, most // 3), rng)
        sent, turn = sent + count, turn + 1
        ledger.judge(f"{number.name} at a random moment", wrong, max(count, 1) if wrong else count)


def test_ended_at_any_moment_and_begun_again_it_writes_the_same(undisturbed, tmp_path, ledger):
    rounds(undisturbed, tmp_path, 6, 0, ledger, 15)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 5))
def test_ended_at_many_moments_and_begun_again_it_writes_the_same(seed, undisturbed, tmp_path, ledger):
    rounds(undisturbed, tmp_path, 30, seed, ledger, 300)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_ended_while_it_starts_it_leaves_nothing(number, undisturbed, tmp_path, monkeypatch, ledger):
    """A process from its first import on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for turn in range(6):
        with Path("err").open("wb") as errors:
            process = commands.start(*undisturbed.words("-q"), stderr=errors)
        time.sleep(random.Random(turn).uniform(0.05, 6))
        process.send_signal(number)
        code = process.wait(30)
        said = Path("err").read_text()
        wrong = [f"moment {turn}: {said[-300:]}"] if "Traceback" in said and number != signal.SIGKILL else []
        if code not in {-number, *CODES[number], *ENDED}:
            wrong.append(f"moment {turn}: exit code {code}")
        ledger.judge(f"{number.name} while it starts", wrong)
    assert undisturbed.finish(tmp_path) == []
    assert left_behind(tmp_path) == []
    assert all(Path(name).exists() for name in FILES)
