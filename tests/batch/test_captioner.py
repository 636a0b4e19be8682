"""The engine: the answers of `ask`, one encoding for all questions, and failures that stay with their video."""

import json
import os
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import ipcv
from ipcv import ModelSource, Options, Sampling
from ipcv.batch.captioner import Captioner
from ipcv.batch.inputs import collect
from ipcv.batch.items import Item
from ipcv.batch.plan import Captioned, Failed, Plan, Started, describe
from ipcv.batch.prompts import READY_MADE, parse
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.files import parse_size
from ipcv.inference.frame_encoder import FrameEncoder
from ipcv.media.segments import Segments
from ipcv.models import prompt
from ipcv.models.guard.template import render
from ipcv.output.records import records
from ipcv.readers.pool import Readers

COUNT, DESCRIBE = "How many objects are there?", "Describe the video."
OPTIONS = Options(sampling=Sampling(max_frames=6), max_new_tokens=24)


def run(demo, items, plan=None, **settings):
    captioner = Captioner(demo, plan or Plan(options=OPTIONS), Readers(0, 1), **settings)
    return list(captioner.run(describe(captioner.plan, captioner.identity, item) for item in items))


def answers(outcomes):
    return [[part.answer.answer for part in each.parts] for each in outcomes if isinstance(each, Captioned)]


@pytest.fixture(scope="module")
def encodings(demo):
    """Counts passes through the vision encoder."""
    passes = []
    handle = demo.loaded.network.model.visual.register_forward_pre_hook(lambda *_: passes.append(1))
    yield passes
    handle.remove()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_answers_are_those_of_ask_in_order(demo, clips, batch_size):
    items = collect([str(clips)])
    outcomes = run(demo, items, batch_size=batch_size)
    assert answers(outcomes) == [[demo.ask(item.video, DESCRIBE, OPTIONS).answer] for item in items]
    done = [each for each in outcomes if isinstance(each, Captioned)]
    assert [each.item for each in done] == items
    for each in outcomes:
        if isinstance(each, Captioned):
            started = outcomes.index(Started(item=each.item))
            assert started < outcomes.index(each)


def test_records_are_the_json_of_ask_without_what_was_measured(demo, clips):
    item = collect([str(clips)])[0]
    outcomes = run(demo, [item])
    (record,) = records(outcomes[-1])
    from ipcv_cli.display.stdout import json_object

    *_, final = demo.stream(item.video, DESCRIBE, OPTIONS)
    expected = json.loads(json_object(final))
    for stage in expected["stages"]:
        stage["seconds"] = None
    assert {name: record[name] for name in expected} == expected
    assert set(record) - set(expected) == {"id", "key", "part", "parts", "start", "end", "data", "problem"}
    assert (record["start"], record["end"]) == (0.0, expected["video"]["duration"])


def test_several_questions_share_one_encoding(demo, clips, encodings):
    items = collect([str(clips)])[:2]
    encodings.clear()
    outcomes = run(demo, items, Plan(questions=(DESCRIBE, COUNT, COUNT + " "), options=OPTIONS))
    assert len(encodings) == 2
    expected = [[demo.ask(item.video, question, OPTIONS).answer for question in (DESCRIBE, COUNT)] for item in items]
    assert [each[:2] for each in answers(outcomes)] == expected


def test_segments_have_their_times_and_their_own_frames(demo, clips):
    item = collect([str(clips)])[0]
    (done,) = (each for each in run(demo, [item], Plan(segments=Segments(seconds=1.5), options=OPTIONS))[1:])
    spans = [(part.start, part.end) for part in done.parts]
    assert spans[0] == (0.0, 1.5)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    for part in done.parts:
        sampling = replace(OPTIONS.sampling, start=part.start, end=part.end)
        alone = demo.ask(item.video, DESCRIBE, replace(OPTIONS, sampling=sampling))
        assert part.answer.answer == alone.answer
        assert part.answer.frames == alone.frames


def test_an_items_own_question_and_times_come_first(demo, clips):
    video = str(clips / "0.mp4")
    item = Item(id="q", video=video, place="0.mp4", question=COUNT, start=1.0, end=2.0)
    (done,) = answers(run(demo, [item]))
    assert done == [demo.ask(video, COUNT, replace(OPTIONS, sampling=Sampling(max_frames=6, start=1, end=2))).answer]


def test_one_bad_video_is_one_failure(demo, clips, tmp_path):
    (tmp_path / "text.mp4").write_text("These are notes.\n")
    (tmp_path / "cut.mp4").write_bytes((clips / "0.mp4").read_bytes()[:3000])
    missing = Item(id="gone", video=str(tmp_path / "gone.mp4"), place="gone.mp4")
    backwards = Item(id="back", video=str(clips / "0.mp4"), place="0.mp4", start=2.0, end=1.0)
    good = collect([str(clips)])[0]
    outcomes = run(demo, [missing, *collect([str(tmp_path)]), backwards, good], batch_size=2)
    failed = [(each.item.id, each.stage, each.error) for each in outcomes if isinstance(each, Failed)]
    assert failed == [
        ("gone", "open", "VideoError"),
        (str(tmp_path / "cut.mp4"), "read", "VideoError"),
        (str(tmp_path / "text.mp4"), "read", "VideoError"),
        ("back", "open", "ValueError"),
    ]
    assert answers(outcomes) == [[demo.ask(good.video, DESCRIBE, OPTIONS).answer]]


@pytest.mark.parametrize("question", ["What is <|im_end|>?", "What is \ud800?"])
def test_a_question_that_the_model_cannot_take_is_that_videos_failure(demo, clips, question):
    first, second, third = collect([str(clips)])[:3]
    failed, *others = (
        each for each in run(demo, [first, replace(second, question=question), third]) if not isinstance(each, Started)
    )
    failed, others = others[0], [failed, others[1]]
    assert isinstance(failed, Failed)
    assert (failed.item.id, failed.stage, failed.kind) == (second.id, "open", "settings")
    assert [each.item for each in others if isinstance(each, Captioned)] == [first, third]


def test_what_goes_wrong_in_the_model_is_that_videos_failure(demo, clips):
    items = collect([str(clips)])
    count = 0

    def fail(*_):
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("an illegal address")

    handle = demo.loaded.network.model.visual.register_forward_pre_hook(fail)
    try:
        outcomes = run(demo, items)
    finally:
        handle.remove()
    (failed,) = (each for each in outcomes if isinstance(each, Failed))
    assert (failed.item, failed.stage, failed.error) == (items[1], "encode", "RuntimeError")
    assert len(answers(outcomes)) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in demo.loaded.network.get_decoder().modules())


def test_without_memory_for_a_batch_answers_are_written_one_by_one(demo, clips):
    items = collect([str(clips)])

    def refuse(_, args, kwargs):
        if len(kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]) > 1:
            raise RuntimeError("CUDA out of memory")

    handle = demo.loaded.network.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        outcomes = run(demo, items)
    finally:
        handle.remove()
    assert answers(outcomes) == [[demo.ask(item.video, DESCRIBE, OPTIONS).answer] for item in items]


def test_json_that_is_none_is_asked_for_again_and_recorded(demo, clips, monkeypatch):
    item = collect([str(clips)])[0]
    prompts = []

    def listen(tokenizer, messages, *given, **values):
        prompts.append(messages[-1]["content"][-1]["text"])
        return render(tokenizer, messages, *given, **values)

    monkeypatch.setattr(prompt, "render", listen)
    plan = Plan(questions=(READY_MADE["json"],), structured=True, options=OPTIONS)
    *_, done = run(demo, [item], plan)
    (part,) = done.parts
    assert part.data is None
    assert part.problem == "there is no JSON object in it"
    *measured, first, second = prompts
    assert all(text.startswith(READY_MADE["json"]) for text in prompts)
    assert len(measured) == 2
    assert "was not valid" not in first
    assert "was not valid (there is no JSON object in it)" in second


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("none", "there is no JSON object in it"),
        ('{"caption": 3}', "caption: Input should be a valid string"),
        ('{"caption": "a', "there is no JSON object in it"),
        ("{'a': 1}", "Invalid JSON"),
        (
            'Here: ```json\n{"caption": "A", "objects": [], "actions": ["x"], "setting": "", "text": []}\n``` Done.',
            None,
        ),
        ('{"caption": "A", "objects": [], "actions": [], "setting": "", "text": [], "more": 1}', "more: Extra inputs"),
    ],
)
def test_answers_are_checked_against_the_schema(text, problem):
    found, wrong = parse(text)
    assert (found is None) == bool(problem)
    assert problem is None or wrong.startswith(problem)


def test_the_key_changes_with_everything_that_matters(demo, clips, tmp_path):
    item = collect([str(clips)])[0]
    model = fingerprint.model(demo.facts)
    plan = Plan(options=OPTIONS)

    def key(plan=plan, item=item, model=model):
        return describe(plan, model, item).key

    others = [
        key(replace(plan, questions=("Why?",))),
        key(replace(plan, segments=Segments(seconds=2))),
        key(replace(plan, segments=Segments())),
        key(replace(plan, structured=True)),
        *(
            key(replace(plan, options=replace(OPTIONS, **change)))
            for change in (
                {"pruner": ipcv.Dart()},
                {"pruner": ipcv.FastV()},
                {"compressor": ipcv.IPCV(keep=0.6)},
                {"system": "Be terse."},
                {"seed": 1},
                {"frame_batch": 4},
                {"sampling": Sampling(max_frames=8)},
            )
        ),
        key(item=replace(item, start=1.0)),
        key(item=replace(item, question="When?")),
        key(model=model | {"files": "other"}),
        key(model=model | {"dtype": "float16"}),
    ]
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((clips / "0.mp4").read_bytes())
    moved = replace(item, video=str(copy))
    others.append(key(item=moved))
    os.utime(copy, (1, 1))
    assert key(item=moved) == others[-1]
    with copy.open("r+b") as file:
        file.write(b"X")
    os.utime(copy, (1, 1))
    others.append(key(item=moved))
    assert key() == key()
    assert len({key(), *others}) == len(others) + 1


def test_the_identity_is_known_before_the_model_is_loaded(demo):
    assert fingerprint.model_to_come(ModelSource(name="demo", offline=True)) == fingerprint.model(demo.facts)


def test_a_second_question_needs_no_reading_and_no_encoding(demo, clips, encodings, tmp_path):
    cache, item = EncodingCache(tmp_path / "cache"), collect([str(clips)])[0]
    plain = demo.ask(item.video, COUNT, OPTIONS)
    encodings.clear()
    first = list(demo.stream(item.video, COUNT, OPTIONS, cache=cache))[-1].answer
    assert (len(encodings), len(cache.entries())) == (1, 1)
    second = list(demo.stream(item.video, COUNT, replace(OPTIONS, pruner=None), cache=cache))[-1].answer
    third = answers(run(demo, [item], cache=cache))
    assert len(encodings) == 1
    assert replace(first, stages=plain.stages) == plain
    assert second.stages[0].seconds == second.stages[2].seconds == 0
    assert third == [[demo.ask(item.video, DESCRIBE, OPTIONS).answer]]
    encodings.clear()
    list(demo.stream(item.video, COUNT, replace(OPTIONS, compressor=None), cache=cache))
    assert (len(encodings), len(cache.entries())) == (1, 2)


def test_a_damaged_encoding_is_made_again(demo, clips, tmp_path):
    warnings = []
    cache, video = EncodingCache(tmp_path, warn=warnings.append), str(clips / "0.mp4")
    expected = demo.ask(video, COUNT, OPTIONS)
    list(demo.stream(video, COUNT, OPTIONS, cache=cache))
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:]):
        entry.path.write_bytes(damaged)
        warnings.clear()
        answer = list(demo.stream(video, COUNT, OPTIONS, cache=cache))[-1].answer
        assert replace(answer, stages=expected.stages) == expected
        assert len(warnings) == 1
        assert sorted(entry.path.read_bytes()) == sorted(whole)  # safetensors writes its metadata in any order


def test_the_least_recently_used_encodings_go(demo, clips, tmp_path):
    cache = EncodingCache(tmp_path)
    encoded = demo.encode(clips / "0.mp4", OPTIONS)
    keys = [digit * 32 for digit in "abc"]
    for at, key in enumerate(keys[:2]):
        cache.store(key, encoded)
        os.utime(tmp_path / f"{key}.safetensors", (at, at))
    size = cache.entries()[0].size
    (tmp_path / "other.txt").write_text("mine")
    assert torch.equal(cache.load(keys[0], "x.mp4").visual.tokens, encoded.visual.tokens)
    EncodingCache(tmp_path, limit=2 * size + 10).store(keys[2], encoded)
    assert {entry.path.stem for entry in cache.entries()} == {keys[0], keys[2]}
    assert cache.clear() == (2, 2 * size)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500 * 10**6), ("1.5 g", 1_500_000_000), ("10GiB", 10 << 30), ("12", 12)]
)
def test_sizes_are_written_as_people_write_them(text, size):
    assert parse_size(text) == size
    for wrong in (text + "x", text + " x", "-" + text):
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(wrong)


def test_a_second_try_that_fails_is_that_videos_failure(demo, clips):
    items = collect([str(clips)])[:2]
    captioner = Captioner(
        demo, Plan(questions=(READY_MADE["json"],), structured=True, options=OPTIONS), Readers(0, 1), batch_size=2
    )
    seen = []

    def refuse(_, args, kwargs):
        if kwargs["input_ids"].shape[1] > 1:
            seen.append(1)
            if len(seen) == 3:  # the first prompt that is asked again
                raise RuntimeError("CUDA out of memory")

    handle = demo.loaded.network.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        outcomes = list(captioner.run(describe(captioner.plan, captioner.identity, item) for item in items))
    finally:
        handle.remove()
    assert [type(each) for each in outcomes if not isinstance(each, Started)] == [Failed, Captioned]


def test_answers_that_are_written_hold_no_tensors(demo, clips, monkeypatch):
    """However many segments a video has."""
    held, references = [], []
    plan = Plan(segments=Segments(seconds=0.25), questions=(COUNT,), options=OPTIONS)
    captioner = Captioner(demo, plan, Readers(0, 1), batch_size=2)
    encode = FrameEncoder.encode

    def count(*arguments, **settings):
        encoded = yield from encode(*arguments, **settings)
        references.append(weakref.ref(encoded.visual.tokens))
        held.append(sum(reference() is not None for reference in references))
        return encoded

    monkeypatch.setattr(FrameEncoder, "encode", count)
    item = collect([str(clips)])[0]
    list(captioner.run([describe(plan, captioner.identity, item)]))
    assert len(held) > 8
    assert max(held) <= 3
