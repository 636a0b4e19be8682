"""Thousands of clips in one run: neither memory nor descriptors grow."""

import json
from pathlib import Path

import numpy as np
import pytest
from runner import FAST, Run, complaints
from undisturbed import FILES, Whole

GROWTH = 2048  # bytes a clip: its key and its place in the output stay in memory; a leaked frame is ten times that


def many(undisturbed: Whole, folder: Path, count: int, readers: int, limit: float) -> list[str]:
    """Caption `count` clips, which are a few under many names, and say what grows."""
    clips = sorted(path for path in undisturbed.videos.iterdir() if path.name != "notes.mp4")
    manifest = ({"id": str(index), "video": str(clips[index % len(clips)])} for index in range(count))
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, manifest)))
    run = Run(["caption", "list.jsonl", *FAST, "-o", FILES[0], "--readers", str(readers)], folder)
    samples = []
    for sample in run.samples(0.25, limit):
        output = folder / FILES[0]
        done = output.stat().st_size if output.exists() else 0
        samples.append((done, sample.memory, sample.descriptors))
    wrong = complaints(run)
    written = (folder / FILES[0]).read_bytes()
    found = [json.loads(line)["id"] for line in written.splitlines()]
    if run.code or found != [str(index) for index in range(count)]:
        wrong.append(f"exit code {run.code}, {len(found)} lines")
    table = np.array(samples, dtype=float)
    done = table[:, 0] * count / len(written)
    later = (done > count / 4) & (done < count)
    for name, values, most in (("bytes", table[later, 1], GROWTH), ("descriptors", table[later, 2], 0.5 / count)):
        slope = np.polyfit(done[later], values, 1)[0]
        if slope > most:
            wrong.append(f"{slope:+.4f} {name} for each clip")
    return wrong


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_memory_and_descriptors_do_not_grow(undisturbed, tmp_path, ledger):
    ledger.judge("clip in a long run", many(undisturbed, tmp_path, 5000, 1, 800), 5000)
