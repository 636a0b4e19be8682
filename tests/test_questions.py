from collections import Counter

import numpy as np
import pytest

from ipcv.questions import ANSWERS, KINDS, WORDINGS, ask, benchmark, caption
from ipcv.world import HELD_OUT_SEEDS, make_scene


def questions(seeds):
    for seed in seeds:
        things = make_scene(seed).things
        for question in ask(things, np.random.default_rng(seed)):
            yield things, question


def named(text, things):
    """The objects that a question's words fit."""
    words = set(text.rstrip("?.").split())
    colours = words & {thing.colour for thing in things}
    shapes = words & {"circle", "square", "triangle"}
    return [t for t in things if (not colours or t.colour in colours) and (not shapes or t.shape in shapes)]


def test_every_question_about_an_object_fits_one_object_and_has_its_answer():
    for things, question in questions(range(200)):
        if question.kind in ("colour", "shape", "direction"):
            (thing,) = named(question.text, things)
            truth = {"colour": thing.colour, "shape": thing.shape, "direction": thing.motion}[question.kind]
            assert question.answer == ("it stays still" if truth == "still" else truth)


def test_the_count_is_the_number_of_objects():
    for things, question in questions(range(50)):
        if question.kind == "count":
            assert question.answer == ("one", "two", "three")[len(things) - 1]


def test_a_caption_names_every_object_in_the_order_of_the_colours():
    things = next(t for t in (make_scene(seed).things for seed in range(100)) if len(t) == 3)
    first, second, third = sorted(things, key=lambda thing: thing.colour)
    moves = {t: "stays still" if t.motion == "still" else f"moves {t.motion}" for t in things}
    assert caption(things) == (
        f"A {first.colour} {first.shape} {moves[first]}, "
        f"a {second.colour} {second.shape} {moves[second]} and "
        f"a {third.colour} {third.shape} {moves[third]}."
    )


def test_every_wording_comes_up():
    asked = {question.text for _, question in questions(range(300))}
    starts = {wording.split("{}")[0] for wordings in WORDINGS.values() for wording in wordings}
    assert all(any(text.startswith(start) for text in asked) for start in starts)


def test_benchmark_questions_are_held_out_repeatable_and_on_scenes_of_their_own():
    drawn = list(benchmark(100))
    assert drawn == list(benchmark(100))
    seeds = [seed for seed, _ in drawn]
    assert len(set(seeds)) == 100
    assert all(seed in HELD_OUT_SEEDS for seed in seeds)
    for seed, question in drawn:
        assert question.answer in {q.answer for q in ask(make_scene(seed).things, np.random.default_rng(0))}


@pytest.mark.parametrize("kind", ANSWERS)
def test_benchmark_answers_are_balanced_within_each_kind(kind):
    counts = Counter(question.answer for _, question in benchmark(150) if question.kind == kind)
    assert set(counts) == set(ANSWERS[kind])
    assert max(counts.values()) - min(counts.values()) <= 1


def test_benchmark_takes_the_kinds_in_turn():
    assert [question.kind for _, question in benchmark(10)] == [*KINDS, *KINDS]
    assert {question.kind for _, question in benchmark(4, kinds=("count",))} == {"count"}
