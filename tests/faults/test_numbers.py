"""Every family, method, number format, share and length: no number is lost, and the same question has one answer."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import pytest
import torch
from family_folders import CASES, save

import ipcv
from ipcv import Options, TimedFrames
from ipcv.compression import registry
from ipcv.errors import ModelError

KEEPS = (0.02, 0.05, 0.1, 0.35, 0.5, 0.9, 1.0)
COUNTS = (1, 2, 3, 8, 17, 64)
LONG = 1000  # frames
FORMATS = [("float32", "none"), ("bfloat16", "none"), ("float16", "none"), ("float32", "4bit"), ("bfloat16", "8bit")]
PLAIN = Options(compressor=None, reducer=None, pruner=None, max_new_tokens=4)
BOUND = 40.0  # seconds for each family, in the long part


@dataclass(frozen=True)
class Question:
    """What is asked, and how."""

    count: int  # frames
    methods: tuple[tuple[str, float], ...]  # their names and keeps
    seed: int

    def options(self) -> Options:
        """As the model takes it."""
        return replace(PLAIN, **{registry.place_of(name): method(name, keep) for name, keep in self.methods})

    def video(self) -> TimedFrames:
        """Noise, or one colour: where no two tokens differ, shares have nothing to divide by."""
        rng = np.random.default_rng(self.seed)
        frames = rng.integers(0, 256, (self.count, 48, 64, 3), dtype=np.uint8)
        return TimedFrames(frames if self.seed % 4 else np.full_like(frames, self.seed % 256))


def method(name: str, keep: float) -> Any:
    """The method called `name`; of several steps each keeps that much of the one before."""
    known = registry.settings_of(name)
    if "keep" not in known:
        return registry.maker(name)()
    several = get_origin(known["keep"]) is tuple
    return registry.maker(name)(keep=tuple(keep**step for step in (1, 2, 3)) if several else keep)


def questions(rng: random.Random) -> Iterator[Question]:
    """Each method alone first, then some of them together, without end."""
    for name in registry.METHODS:
        yield Question(8, ((name, 0.02),), 0)
        yield Question(rng.choice(COUNTS), ((name, rng.choice(KEEPS)),), rng.randrange(1000))
    while True:
        names = [rng.choice([None, *registry.names(place)]) for place in registry.PLACES]
        methods = tuple((name, rng.choice(KEEPS)) for name in names if name)
        yield Question(rng.choice(COUNTS), methods, rng.randrange(1000))


@contextmanager
def logits_of(model: ipcv.Model) -> Iterator[list[torch.Tensor]]:
    """What the language model's last layer gives in a `with`."""
    found: list[torch.Tensor] = []
    head = model.loaded.network.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _given, output: found.append(output.detach().clone()))
    try:
        yield found
    finally:
        handle.remove()


def wrong_numbers(model: ipcv.Model, question: Question) -> list[str]:
    """What is wrong with two answers to one question; what makes no sense, or not in this family, may be refused."""
    try:
        options, video = question.options(), question.video()
        encoded = [model.encode(video, options).visual for _ in range(2)]
        with logits_of(model) as logits:
            answers = [model.ask(video, "What is it?", options).answer for _ in range(2)]
    except (ValueError, ModelError) as error:
        return [] if "\n" not in str(error) else [f"{question}: {error}"]
    wrong = []
    for each in encoded:
        if not (each.tokens.isfinite().all() and each.deepstack.isfinite().all()):
            wrong.append(f"{question}: visual tokens are not finite")
    if not all(each.isfinite().all() for each in logits):
        wrong.append(f"{question}: logits are not finite")
    half = len(logits) // 2
    same = all(map(torch.equal, logits[:half], logits[half:])) and torch.equal(encoded[0].tokens, encoded[1].tokens)
    if answers[0] != answers[1] or not same:
        wrong.append(f"{question}: {answers[0]!r}, then {answers[1]!r}")
    return wrong


def test_no_number_is_lost_and_answers_repeat(demo, ledger):
    rng = random.Random(0)
    for each, _ in zip(questions(rng), range(2 * len(registry.METHODS)), strict=False):
        ledger.judge("setting of numbers", wrong_numbers(demo, each))


def saved(family: str, folder: Path) -> str:
    save(CASES[family], folder)
    return str(folder)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", CASES)
def test_no_number_is_lost_in_any_family_and_format(family, tmp_path, ledger):
    folder = saved(family, tmp_path)
    for turn, (dtype, quant) in enumerate(FORMATS):
        model = ipcv.load(folder, dtype=dtype, quant=quant)
        until = time.monotonic() + BOUND / len(FORMATS)
        for number, each in enumerate(questions(random.Random(f"{family} {turn}"))):
            if number >= 2 * len(registry.METHODS) and time.monotonic() > until:
                break
            wrong = [f"{family}, {dtype}, {quant}: {problem}" for problem in wrong_numbers(model, each)]
            ledger.judge("setting of numbers", wrong)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_number_is_lost_in_a_long_video(dtype, ledger):
    model = ipcv.load("demo", dtype=dtype, offline=True)
    for name in (None, *registry.METHODS):
        question = Question(LONG, ((name, 0.1),) if name else (), 1)
        ledger.judge("long video", wrong_numbers(model, question))
