"""Questions have one right answer each, and the benchmark asks for all answers equally often."""

import re
from collections import Counter
from itertools import islice, product

import numpy as np
import pytest

from ipcv.benchmark.cases import benchmark
from ipcv.benchmark.questions import ask, plural
from ipcv.benchmark.reference_captions import caption, fact_score, facts
from ipcv.benchmark.wordings import BALANCE, KINDS, NUMBERS, WORDINGS
from ipcv.world.random_scene import make_clip, make_scene
from ipcv.world.scene import COLOURS, HELD_OUT_SEEDS

SHAPES = ("circle", "square", "triangle", "cross", "ring")


def questions(seeds):
    for seed in seeds:
        scene = make_scene(seed)
        for question in ask(scene, np.random.default_rng(seed)):
            yield scene, question


ASKED = list(questions(range(150)))


def of(kind):
    return [(scene, question) for scene, question in ASKED if question.kind == kind]


def called(text, scene):
    """The things that a name, or a question with one name in it, fits."""
    words = text.replace("?", " ").replace(".", " ").replace(",", " ").split()
    colours = set(words) & set(COLOURS)
    shapes = set(words) & set(SHAPES)
    return [t for t in scene.things if (not colours or t.colour in colours) and (not shapes or t.shape in shapes)]


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "direction"])
def test_a_question_about_an_object_fits_one_object_and_has_its_answer(kind):
    assert len(of(kind)) > 50
    for scene, question in of(kind):
        (thing,) = called(question.text, scene)
        truth = {
            "colour": thing.event.colour if " turn?" in question.text else thing.colour,
            "shape": thing.shape,
            "size": thing.size,
            "direction": "it stays still" if thing.motion == "still" else thing.motion,
        }[kind]
        assert question.answer == truth
        assert not (kind == "size" and thing.happens("grows"))
        assert not (kind == "direction" and (thing.happens("bounces") or len(scene.seen(thing)) < 2))


def test_no_name_fits_a_grey_shape_or_a_tag_as_well():
    for scene, question in ASKED:
        if question.kind == "caption":
            continue
        words = question.text.replace("?", " ").replace(",", " ").replace(".", " ").replace("es ", " ").split()
        told = question.balance != "which"
        tags = {tag.colour for tag in scene.tags} & set(words)
        assert not (tags and "object" in words and any(f"{colour} object" in question.text for colour in tags))
        for blot in scene.blots:
            alone = blot.shape in words and words[words.index(blot.shape) - 1] not in COLOURS
            assert not (alone and told and question.answer != "yes"), (question, blot)


def test_counts_are_those_of_the_objects_or_of_one_shape():
    for scene, question in of("count"):
        shapes = [thing.shape for thing in scene.things if plural(thing.shape) in question.text]
        assert question.answer == NUMBERS[len(shapes or scene.things) - 1]


def test_a_position_holds_in_every_frame():
    assert len(of("position")) > 100
    for scene, question in of("position"):
        first, second = question.text.split(f" {question.options[1]}")
        (one,), (other,) = called(first, scene), called(second, scene)
        axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[question.answer]
        for time in np.arange(0, scene.seconds, 0.5):
            if one.is_there(time) and other.is_there(time):
                assert sign * (one.path.at(time)[axis] - other.path.at(time)[axis]) > 0.12


def test_what_came_first_did():
    assert len(of("order")) > 20
    for scene, question in of("order"):
        events = {f"{t.colour} {t.shape}": t.event for t in scene.things if t.event}
        name = "disappears" if "disappears" in question.text else "appears"
        other = next(option for option in question.options if option != question.answer)
        assert events[question.answer].name == events[other].name == name
        assert events[question.answer].time + 1 < events[other].time


def test_events_are_those_of_the_object_that_is_named():
    for scene, question in of("event"):
        if question.balance == "which":
            (thing,) = called(question.answer, scene)
            assert thing.happens(question.text.removeprefix("What ").removesuffix("?"))
            assert len(question.options) == len(scene.things) > 1
        else:
            (thing,) = called(question.text, scene)
            name = question.answer.removeprefix("it ")
            assert (thing.event is None) if name == "nothing" else thing.happens(name)


def test_what_is_said_to_be_there_is_there_and_what_is_not_never_was():
    for scene, question in of("existence"):
        assert question.answer == ("yes" if called(question.text, scene) else "no")
        later = [thing.event.colour for thing in scene.things if thing.event and thing.event.colour]
        assert question.answer == "yes" or not any(f"{colour} object" in question.text for colour in later)


def test_codes_are_those_of_the_tag_that_is_named():
    for scene, question in of("reading"):
        tags = [tag for tag in scene.tags if tag.colour in question.text] or scene.tags
        assert [tag.code for tag in tags] == [question.answer]


def test_a_caption_has_a_sentence_for_everything_in_the_order_of_the_colours():
    scene = next(s for s in map(make_scene, range(300)) if len(s.things) == 3 and len(s.tags) == 1)
    sentences = caption(scene).removesuffix(".").split(". ")
    assert len(sentences) == 4
    for thing, sentence in zip(sorted(scene.things, key=lambda t: t.colour), sentences, strict=False):
        assert f"{thing.colour} {thing.shape}" in sentence
    assert sentences[-1] == f"A {scene.tags[0].colour} tag says {scene.tags[0].code}"


def test_facts_of_a_caption_are_counted_one_by_one():
    text = "A small red circle moves left and disappears. An orange ring bounces. A white tag says K7."
    assert set(facts(text)) == {
        "red circle",
        "small red circle",
        "red circle moves left",
        "red circle disappears",
        "orange ring",
        "orange ring bounces",
        "white tag says k7",
    }


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("A red circle moves left. A white tag says K7.", 1.0),
        ("a red circle moves left; a white tag says k7", 1.0),
        ("A white tag says K7. A red circle moves left.", 1.0),
        ("A red circle moves right. A white tag says K7.", 2 / 3),
        ("A red circle moves left.", 0.8),
        ("A red circle moves left. A red circle moves left. A white tag says K7.", 0.75),
        ("A red circle moves left, and a white tag says K7.", 1.0),
        ("A medium red circle moves left. A white tag says K7.", 1.0),
        ("A red circle and a blue ring that moves left. A white tag says K7.", 4 / 7),
        ("I see nothing.", 0.0),
    ],
)
def test_a_caption_scores_its_facts(text, score):
    assert fact_score("A red circle moves left. A white tag says K7.", text) == pytest.approx(score)


def test_every_caption_has_full_marks_for_itself():
    for scene, question in of("caption"):
        assert fact_score(question.answer, question.answer) == 1
        deeds = [bool(thing.event) + (len(scene.seen(thing)) > 1) - thing.happens("bounces") for thing in scene.things]
        said = len(scene.things) + sum(deeds) + len(scene.tags)
        sized = sum(thing.size != "medium" and not thing.happens("grows") for thing in scene.things)
        assert facts(question.answer).total() == said + sized


@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_of_a_kind_comes_up(kind):
    asked = [question.text for _, question in of(kind)]
    for wording in WORDINGS[kind]:
        pattern = re.escape(wording).replace(r"\{\}", ".+")
        assert any(re.fullmatch(pattern, text) for text in asked), wording


def test_benchmark_questions_are_held_out_repeatable_and_on_scenes_of_their_own():
    drawn = list(benchmark(44))
    assert drawn == list(benchmark(44))
    assert drawn[:20] == list(islice(benchmark(1000), 20))
    seeds = [case.seed for case in drawn]
    assert len(set(seeds)) == 44
    assert all(seed in HELD_OUT_SEEDS for seed in seeds)
    assert [case.question.kind for case in drawn] == [*KINDS] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_benchmark_answers_are_balanced_within_each_kind_and_camera(kind):
    wanted = BALANCE[kind]
    drawn = list(benchmark(2 * len(wanted), kinds=(kind,)))
    counts = Counter((case.question.balance or case.question.answer, case.camera) for case in drawn)
    assert counts == dict.fromkeys(product(wanted, ("still", "moving")), 1)


def test_half_of_the_cameras_stand_still_and_each_scene_is_filmed_by_its_own():
    drawn = list(benchmark(44))
    assert Counter((case.question.kind, case.camera) for case in drawn) == dict.fromkeys(
        product(KINDS, ("still", "moving")), 2
    )
    assert all(make_scene(case.seed, case.camera).camera.kind == case.camera for case in drawn)
    assert np.array_equal(drawn[1].clip().frames, make_clip(drawn[1].seed, camera="moving").frames)
