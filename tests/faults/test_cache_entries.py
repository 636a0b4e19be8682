"""Damaged entries of the cache: the answers are as without a cache, and the entries are made anew."""

import json
import random
import shutil
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from injectors import CHANGES, CUTS
from ledger import Ledger
from runner import Run, complaints, lines
from safetensors import safe_open
from safetensors.torch import save_file
from undisturbed import FILES, Whole

DEEP = "[" * 100_000


def another_shape(content: bytes, path: Path, rng: random.Random) -> bytes:
    """A file that is whole but for its tensors, which have another shape, or other names."""
    path.write_bytes(content)
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = rng.choice(sorted(tensors))
    change = rng.choice(["flat", "half", "renamed"])
    if change == "renamed":
        tensors["other"] = tensors.pop(name)
    elif change == "flat":
        tensors[name] = tensors[name].flatten()
    else:
        tensors[name] = tensors[name][: len(tensors[name]) // 2].clone()
    save_file(tensors, path, about)
    return path.read_bytes()


def another_header(content: bytes, rng: random.Random) -> bytes:
    """What the file says about itself is another value, deep, or of another kind, and its hash as it was."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["about"])
    name = rng.choice(sorted(about))
    about[name] = rng.choice([None, "", [], {}, -1, 0, 10**30, "x", [1, 2, 3], [[-1, 5]], True])
    text = json.dumps(about)
    if rng.random() < 0.2:
        text = text[:-1] + f', "more": {DEEP}}}'
    header["__metadata__"]["about"] = text
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return struct.pack("<Q", len(written)) + written + content[8 + length :]


def damages(content: bytes, others: list[bytes], scratch: Path, rng: random.Random) -> Iterator[bytes]:
    """An entry broken in all ways, without end."""
    faults = [*CUTS.values(), *CHANGES.values()]
    while True:
        yield rng.choice(faults)(content, rng.randrange(10**6))
        yield another_header(content, rng)
        yield another_shape(content, scratch, rng)
        yield rng.choice(others)


def caption(undisturbed: Whole, folder: Path) -> tuple[list[tuple], list[str]]:
    """Caption with a cache: what came of it, and what is wrong with how it was said."""
    folder.mkdir()
    run = Run(undisturbed.words("--readers", "0", "--cache", str(folder.parent / "kept")), folder)
    run.wait()
    return [answered(each) for each in lines(folder / FILES[0])], complaints(run)


def damage_all(undisturbed: Whole, folder: Path, rounds: int, seed: int, ledger: Ledger) -> None:
    """Caption with a cache, damage every entry of it, caption again; that many times."""
    rng = random.Random(seed)
    right, _ = caption(undisturbed, folder / "whole")
    whole = {path: path.read_bytes() for path in sorted((folder / "kept").glob("*.safetensors"))}
    for turn in range(rounds):
        damage(whole, folder / f"damaged-{turn}", rng)
        found, wrong = caption(undisturbed, folder / f"{turn}")
        wrong += [f"{turn}: {each[:2]} is another result" for each in found if each not in right]
        wrong += [f"{turn}: {each[0]} has no result" for each in right if each[0] not in {one[0] for one in found}]
        wrong += [f"damaged-{turn}/{path.name} stays damaged" for path in whole if not is_as_it_was(path, whole[path])]
        ledger.judge("damaged cache entry", wrong, len(whole))


def damage(whole: dict[Path, bytes], kept: Path, rng: random.Random) -> None:
    """Another fault in every entry; copies are kept."""
    kept.mkdir()
    for path, content in whole.items():
        broken = damages(content, [each for each in whole.values() if each != content], kept / "scratch", rng)
        path.write_bytes(next(islice(broken, rng.randrange(4), None)))
        shutil.copy(path, kept)


def answered(record: dict[str, Any]) -> tuple[Any, ...]:
    """What must be as it was in a line of captions."""
    return record["id"], record["answer"], record["frames"], record["video"]


def is_as_it_was(path: Path, content: bytes) -> bool:
    """Whether an entry has the tensors that it had; what it says about itself may have changed."""
    return path.exists() and path.read_bytes()[-4096:] == content[-4096:]


def test_damaged_entries_are_made_anew(undisturbed, tmp_path, ledger):
    damage_all(undisturbed, tmp_path, 1, 0, ledger)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_many_damaged_entries_are_made_anew(undisturbed, tmp_path, ledger):
    damage_all(undisturbed, tmp_path, 20, 1, ledger)
