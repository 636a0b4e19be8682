"""Too little memory in each stage, and few descriptors: one line says so, and with more of it the rest is done."""

import random
import resource
from functools import partial
from pathlib import Path

import pytest
from hardships import hungry_function, hungry_module, limit, limit_memory
from runner import Prepare, Run, complaints
from undisturbed import Whole, twice

STAGES = {  # where memory runs out
    "loading": lambda _: partial(hungry_function, "ipcv.models.loading:read_model", 1),
    "reading": lambda call: partial(hungry_function, "ipcv.media.clip:Clip.__iter__", call),
    "encoding": lambda call: partial(hungry_module, "Qwen2VLVisionBlock", call),
    "prefill": lambda call: partial(hungry_module, "Qwen2VLDecoderLayer", call),
    "writing": lambda call: partial(hungry_function, "ipcv.output.journal:line", call),
}

ABORTS = ("memory allocation of", "cannot allocate memory for thread-local data")  # of Rust and of the C library


def starve(undisturbed: Whole, folder: Path, prepare: Prepare, *more: str) -> list[str]:
    """Memory runs out in one run, and there is enough for the next."""
    folder.mkdir()
    run = Run(undisturbed.words("--readers", "0"), folder, [prepare])
    code = run.wait()
    wrong = [*complaints(run), *twice(folder)]
    if any(words in run.err for words in ABORTS):
        wrong = twice(folder)
    elif code not in (1, 3, 6):
        wrong.append(f"exit code {code}")
    again = Run(undisturbed.words("--retry-failed", "--readers", "0"), folder)
    again.wait()
    return [*wrong, *complaints(again), *twice(folder), *undisturbed.missing(folder)]


@pytest.mark.parametrize("stage", STAGES)
def test_out_of_memory_in_a_stage(stage, undisturbed, tmp_path, ledger):
    ledger.judge("out of memory", starve(undisturbed, tmp_path / stage, STAGES[stage](3)))


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_out_of_memory_in_a_stage_at_any_time(stage, undisturbed, tmp_path, ledger):
    rng = random.Random(stage)
    for turn in range(6):
        place = STAGES[stage](rng.randint(1, 40))
        ledger.judge("out of memory", starve(undisturbed, tmp_path / f"{turn}", place))


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_out_of_memory_wherever_it_is_reached(undisturbed, tmp_path, ledger):
    """The system refuses, at more and more of it. With less than this, tokenizers ends the process."""
    for turn in range(20):
        limited = partial(limit_memory, 2**20 * round(8 * 1.3**turn))
        ledger.judge("out of address space", starve(undisturbed, tmp_path / f"{turn}", limited))


def test_few_descriptors_are_enough(undisturbed, tmp_path, ledger):
    folder = tmp_path / "few"
    folder.mkdir()
    run = Run(undisturbed.words(), folder, [partial(limit, resource.RLIMIT_NOFILE, 64)])
    run.wait()
    ledger.judge("64 descriptors", [*complaints(run), *undisturbed.differences(folder)])
