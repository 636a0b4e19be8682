"""Broken videos, many in one run of `ipcv caption`: each is answered, or fails with one clean line."""

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from injectors import all_broken
from ledger import Ledger
from runner import FAST, Run, complaints, lines
from seeds import SEEDS, Seed

MEMORY = 1200 * 2**20  # bytes that a process may come to hold; torch and the demo model take a third of it
ASKED = 4  # of each seed, in the long part


def break_all(folder: Path, seeds: list[Seed], times: int) -> list[str]:
    """Files with every fault of every seed; their names."""
    folder.mkdir()
    for number, seed in enumerate(seeds):
        whole = seed.write(folder.parent / f"whole.{seed.ending}").read_bytes()
        for fault, content in all_broken(whole, times, seed=1000 * number):
            (folder / f"{Path(seed.name).stem}-{fault}.{seed.ending}").write_bytes(content)
        other = seeds[number - 1]
        (folder / f"{Path(seed.name).stem}-misnamed.{other.ending}").write_bytes(whole)
        seed.write(folder / f"{Path(seed.name).stem}-empty.{seed.ending}", count=0)
    return sorted(path.name for path in folder.iterdir())


def judged(run: Run, names: list[str]) -> list[str]:
    """What is wrong with a run over the files `names` of the folder `broken`."""
    done, failed = (lines(run.folder / f"{name}.jsonl") for name in ("captions", "failures"))
    counts = Counter(Path(each["id"]).name for each in [*done, *failed])
    told = Counter(line.split(": ", 2)[2] for line in run.err.splitlines() if line.startswith("ipcv: failed: "))
    wrong = complaints(run)
    wrong += [f"{name}: {counts[name]} results" for name in names if counts[name] != 1]
    wrong += [f"{each['id']}: {each['message']!r}" for each in failed if not is_clean(each["message"])]
    return wrong + [f"{message}: told {count} times" for message, count in told.items() if count > 1]


def is_clean(message: str) -> bool:
    """Whether it is one line, and about the video."""
    return "\n" not in message and "bug" not in message and "ended with code" not in message


def keep(folder: Path, wrong: list[str]) -> None:
    """Put the files that `wrong` speaks of aside."""
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for path in (folder / "broken").iterdir():
        if any(path.name in each for each in wrong):
            shutil.copy(path, kept)


def caption_all(folder: Path, seeds: list[Seed], times: int, ledger: Ledger, limit: float) -> None:
    names = break_all(folder / "broken", seeds, times)
    run = Run(["caption", "broken", "--glob", "*", *FAST, "-o", "captions.jsonl"], folder)
    run.wait(limit)
    wrong = judged(run, names)
    if run.code not in (0, 3):
        wrong.append(f"exit code {run.code}")
    if run.peak > MEMORY:
        wrong.append(f"a process held {run.peak / 2**20:.0f} MiB")
    keep(folder, wrong)
    ledger.judge("broken file in a batch", wrong, len(names))


def test_a_batch_outlives_its_broken_files(tmp_path, ledger):
    caption_all(tmp_path, SEEDS[:5], 2, ledger, limit=60)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(4))
def test_a_batch_outlives_thousands_of_broken_files(part, tmp_path, ledger):
    caption_all(tmp_path, SEEDS[part::4], 16, ledger, limit=600)


def ask_about(folder: Path, seeds: list[Seed], most: int, ledger: Ledger) -> None:
    """Every `ask` gives an answer, or exit code 4 and one line."""
    names = break_all(folder / "broken", seeds, 1)
    names = names[:: max(len(names) // most, 1)]
    for name in islice(names, most):
        run = Run(["ask", f"broken/{name}", "What colour is the circle?", *FAST, "-q"], folder)
        code = run.wait(30)
        wrong = [f"{name}: {each}" for each in complaints(run)]
        if code not in (0, 4) or (code == 0) != bool(run.out) or (code == 4) != (run.err.count("\n") == 1):
            wrong.append(f"{name}: exit code {code}, {run.err!r}")
        keep(folder, wrong)
        ledger.judge("broken file in ask", wrong)


def test_ask_is_told_what_is_wrong_with_a_broken_file(tmp_path, ledger):
    ask_about(tmp_path, SEEDS[:3], 4, ledger)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_ask_is_told_what_is_wrong_with_each_broken_file(tmp_path, ledger):
    ask_about(tmp_path, SEEDS, 60, ledger)
