"""Batches within a budget of visual tokens, and within the memory there is: what is lowered, and where it is said."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from probes import hungry

from ipcv import EVS, Options, Sampling
from ipcv.batch.captioner import Captioner
from ipcv.batch.inputs import collect
from ipcv.batch.plan import Plan, Started, describe
from ipcv.encodings.cache import EncodingCache
from ipcv.media.segments import Segments
from ipcv.readers.pool import Readers
from ipcv_cli.main import main

COUNT, DESCRIBE = "How many objects are there?", "Describe the video."
OPTIONS = Options(sampling=Sampling(fps=4), max_visual_tokens=40, max_new_tokens=4)
FAST = ["--model", "demo", "--fps", "4", "--max-new-tokens", "4", "--readers", "0"]


def run(demo, items, plan=None, readers=0, **settings):
    with Readers(readers, 2) as reading:
        captioner = Captioner(demo, plan or Plan(options=OPTIONS), reading, **settings)
        works = [describe(captioner.plan, captioner.identity, item) for item in items]
        return [each for each in captioner.run(works) if not isinstance(each, Started)]


def of_ask(answer):
    """What a caption has in common with the answer of `ask`: all but what was measured."""
    return replace(answer, stages=(), savings=None)


@pytest.fixture
def items(clips):
    return collect([str(clips / "0.mp4"), str(clips / "1.mp4")])


@pytest.fixture
def videos(clips, tmp_path, monkeypatch):
    """Three long clips and a short one, in a folder of their own, `videos`."""
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(clips / "0.mp4", f"videos/{name}.mp4")
    return Path("videos")


def caption(*words, code=0):
    assert main(["caption", *map(str, words), *FAST]) == code


def lines(path="captions.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# ---------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("readers", [0, 1])
def test_a_caption_within_a_budget_is_the_answer_of_ask(demo, items, readers):
    outcomes = run(demo, items, readers=readers)
    for item, done in zip(items, outcomes, strict=True):
        (part,) = done.parts
        asked = demo.ask(item.video, DESCRIBE, OPTIONS)
        assert of_ask(part.answer) == of_ask(asked)
        assert part.answer.frames.visual_tokens <= 40 < part.answer.budget.asked
        assert [cause for cause, _ in part.lowered] == ["budget"]


def test_each_segment_has_the_budget_for_itself(demo, items):
    options = replace(OPTIONS, max_visual_tokens=20)
    (done,) = run(demo, items[:1], Plan(segments=Segments(seconds=1.5), options=options))
    assert len(done.parts) > 1
    for part in done.parts:
        sampling = replace(options.sampling, start=part.start, end=part.end)
        alone = demo.ask(items[0].video, DESCRIBE, replace(options, sampling=sampling))
        assert (part.answer.budget, part.answer.frames) == (alone.budget, alone.frames)
        assert part.answer.frames.visual_tokens <= 20


def test_without_an_option_the_context_is_the_budget(demo, items, monkeypatch):
    monkeypatch.setattr(demo.loaded.network.config.text_config, "max_position_embeddings", 4 + 256 + 30)
    plan = Plan(options=replace(OPTIONS, max_visual_tokens=None))
    for done in run(demo, items, plan):
        (part,) = done.parts
        assert (part.answer.budget.limit, part.answer.budget.source) == (30, "context")
        assert part.answer.frames.visual_tokens <= 30


def test_a_limit_that_cannot_be_met_is_that_videos_failure(demo, items):
    outcomes = run(demo, items, Plan(options=replace(OPTIONS, max_visual_tokens=3)))
    assert [(each.stage, each.error) for each in outcomes] == [("read", "ValueError")] * 2
    assert re.fullmatch(r"3 visual tokens are too few: .*0\.mp4 has \d+ at least", outcomes[0].message)


def test_another_budget_is_another_piece_of_work(demo, items):
    plans = [
        Plan(options=OPTIONS),
        Plan(options=replace(OPTIONS, max_visual_tokens=41)),
        Plan(options=OPTIONS, fit=True),
    ]
    assert len({describe(plan, {}, items[0]).key for plan in plans}) == 3


def test_a_cache_keeps_what_each_budget_makes_of_a_video(demo, items, tmp_path):
    cache, passes = EncodingCache(tmp_path / "cache"), []
    handle = demo.loaded.network.model.visual.register_forward_pre_hook(lambda *_: passes.append(1))
    found = {}
    try:
        for limit in (40, 24, 40, 24, None):
            plan = Plan(options=replace(OPTIONS, max_visual_tokens=limit))
            passes.clear()
            (done,) = run(demo, items[:1], plan, cache=cache)
            answer = of_ask(done.parts[0].answer)
            assert bool(passes) == (limit not in found)
            assert found.setdefault(limit, answer) == answer
    finally:
        handle.remove()
    assert len(cache.entries()) == 3


def test_a_reducer_of_ones_own_is_lowered_for_each(demo, items):
    plan = Plan(options=replace(OPTIONS, reducer=EVS(keep=0.9), sampling=Sampling(fps=1)))
    (done,) = run(demo, items[:1], plan)
    assert done.parts[0].answer.videos == demo.ask(items[0].video, DESCRIBE, plan.options).videos


def test_the_command_says_it_once_and_for_all_others_in_a_line(videos, capsys):
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "40")
    err = capsys.readouterr().err
    assert [line["budget"]["limit"] for line in lines()] == [40] * 3
    (told,) = {warning for line in lines() for warning in line["warnings"] if "more than the 40" in warning}
    told = told.replace("max_visual_tokens", "--max-visual-tokens")
    assert f"ipcv: warning: videos/a.mp4: {told}\n" in err
    assert err.count("that --max-visual-tokens allows") == 1
    more = "ipcv: warning: 2 more videos got less, for the budget of visual tokens: warnings in the output say how\n"
    assert more in err


def test_the_same_command_goes_on_and_another_budget_replaces_on_demand(videos, capsys):
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "40", "--limit", "2")
    before = lines()
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "40")
    assert lines()[:2] == before
    capsys.readouterr()
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "40")
    assert capsys.readouterr().err == "ipcv: nothing to do: all 3 were done before\n"
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "30", code=2)
    assert [line["budget"]["limit"] for line in lines()] == [40] * 3
    caption(videos, "-o", "captions.jsonl", "--max-visual-tokens", "30", "--overwrite")
    assert [line["budget"]["limit"] for line in lines()] == [30] * 3


def test_nonsense_is_code_2_before_anything_is_done(videos, capsys):
    for value, says in (("0", "--max-visual-tokens 0 must be at least 1"), ("many", "Input should be a valid integer")):
        caption(videos, "--max-visual-tokens", value, code=2)
        assert says in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- memory


@pytest.fixture
def large(clip):
    """A video whose frames can be made smaller."""
    return collect([str(clip)])[0]


@pytest.fixture
def encoder(demo):
    return demo.loaded.network.model.visual.blocks[0]


@pytest.fixture
def decoder(demo):
    return demo.loaded.network.get_decoder()


FREE = Plan(options=replace(OPTIONS, max_visual_tokens=None))


def test_without_memory_for_a_pair_of_frames_pixels_are_halved_as_in_ask(demo, large, encoder):
    with hungry(encoder, lambda patches: 46 if patches > 60 else 1):
        (done,) = run(demo, [large], FREE)
        asked = demo.ask(large.video, DESCRIBE, FREE.options)
    (part,) = done.parts
    assert part.answer.videos == asked.videos
    assert part.answer.answer == asked.answer
    assert part.lowered
    assert {cause for cause, _ in part.lowered} == {"memory"}
    assert set(part.answer.warnings) == set(asked.warnings)


def test_without_memory_for_the_prompt_the_budget_is_halved_as_in_ask(demo, items, decoder):
    with hungry(decoder, lambda tokens: 46 if tokens > 100 else 1):
        (done,) = run(demo, items[:1], FREE)
        asked = demo.ask(items[0].video, DESCRIBE, FREE.options)
    (part,) = done.parts
    assert part.answer.budget.source == "memory"
    assert of_ask(part.answer).videos == of_ask(asked).videos
    assert part.answer.answer == asked.answer
    assert [cause for cause, _ in part.lowered] == ["memory", "memory", "budget"]


def test_answers_that_wait_are_written_before_anything_is_lowered(demo, items, decoder):
    """The third prompt finds no room beside the first two; once these are answered, it does."""
    waiting, failed = [], []

    def refuse(*_):
        if len(captioner._waiting) == 2:
            waiting.append(len(captioner._waiting))
            raise RuntimeError("CUDA out of memory")

    with Readers(0, 1) as readers:
        captioner = Captioner(demo, replace(FREE, questions=(DESCRIBE, COUNT, COUNT + " ")), readers)
        handle = decoder.register_forward_pre_hook(refuse)
        try:
            outcomes = list(captioner.run([describe(captioner.plan, captioner.identity, items[0])]))
        finally:
            handle.remove()
    assert waiting
    assert not failed
    assert [part.lowered for part in outcomes[-1].parts] == [()] * 3


def test_a_segment_that_is_too_much_does_not_disturb_the_next(demo, large, encoder):
    """Whoever reads ahead has sent all of it already."""
    plan, passes = replace(FREE, segments=Segments(seconds=1.5)), []

    def bits(patches):
        passes.append(patches)
        return 46 if patches > 60 and len(passes) <= 4 else 1

    with hungry(encoder, bits):
        (done,) = run(demo, [large], plan, readers=1)
    (plain,) = run(demo, [large], plan)
    assert [(part.start, part.end) for part in done.parts] == [(part.start, part.end) for part in plain.parts]
    assert {cause for cause, _ in done.parts[0].lowered} == {"memory"}
    assert done.parts[0].answer.frames.height < plain.parts[0].answer.frames.height
    assert [part.answer.videos for part in done.parts[1:]] == [part.answer.videos for part in plain.parts[1:]]


def test_one_that_is_too_much_fails_with_the_reason_and_the_others_go_on(videos, demo, decoder, monkeypatch, capsys):
    monkeypatch.setattr("ipcv.inference.load.read_model", lambda *_: demo.loaded)
    seen = []

    def bits(tokens):
        seen.append(tokens)
        return 46 if len(seen) <= 6 else 1  # the first one, with ever less, until there is no less

    with hungry(decoder, bits):
        caption(videos, "-o", "captions.jsonl", "--batch-size", "1", code=3)
    (failed,) = lines("failures.jsonl")
    assert (failed["id"], failed["stage"], failed["error"]) == ("videos/a.mp4", "generate", "MemoryExhaustedError")
    assert len(lines()) == 2
    assert "ipcv: failed: videos/a.mp4: out of memory while answering: lower --max-frames" in capsys.readouterr().err


def test_nothing_that_fits_is_code_6(videos, demo, decoder, monkeypatch):
    monkeypatch.setattr("ipcv.inference.load.read_model", lambda *_: demo.loaded)
    with hungry(decoder, lambda _: 46):
        caption(videos, code=6)


def test_what_was_lowered_for_memory_is_told_once_and_not_cached(videos, clip, demo, encoder, monkeypatch, capsys):
    monkeypatch.setattr("ipcv.inference.load.read_model", lambda *_: demo.loaded)
    for path in videos.iterdir():
        shutil.copy(clip, path)
    with hungry(encoder, lambda patches: 46 if patches > 60 else 1):
        caption(videos, "-o", "captions.jsonl", "--cache", "kept")
    err = capsys.readouterr().err
    assert err.count("memory ran out with") == 1
    assert "2 more videos got less, because memory ran out" in err
    assert not list(Path("kept").glob("*"))


# ------------------------------------------------------------------------------------------------- fit


def test_fit_chooses_once_and_says_what_and_why(videos, capsys):
    caption(videos, "-o", "captions.jsonl", "--fit", "--frame-batch", "4", "--batch-size", "3")
    err = capsys.readouterr().err
    (told,) = {warning for line in lines() for warning in line["warnings"] if warning.startswith("fitted to ")}
    assert "4 frames at a time, 3 answers at a time, the model's whole context" in told
    assert err.count(f"ipcv: warning: {told}\n") == 1
    assert [line["settings"]["frame_batch"] for line in lines()] == [4] * 3


def test_a_fitted_batch_goes_on_whatever_fits_by_then(videos, monkeypatch, capsys):
    import ipcv.limits.fit

    with monkeypatch.context() as patch:
        patch.setattr(ipcv.limits.fit, "free_memory", lambda _: (90 << 20, "of this test"))
        caption(videos, "-o", "captions.jsonl", "--fit", "--limit", "2")
    small = lines()
    assert "fitted to 0.09 GiB of this test that are free" in capsys.readouterr().err
    assert small[0]["settings"]["max_visual_tokens"] < 8192
    caption(videos, "-o", "captions.jsonl", "--fit")
    assert lines()[:2] == small
    assert lines()[2]["settings"]["max_visual_tokens"] is None


def test_a_model_that_does_not_fit_is_code_6_and_one_line(videos, monkeypatch, capsys):
    import ipcv.limits.fit

    monkeypatch.setattr(ipcv.limits.fit, "free_memory", lambda _: (10 << 20, "of this test"))
    caption(videos, "--fit", "-q", code=6)
    err = capsys.readouterr().err
    assert "do not fit into the 0.01 GiB that are free" in err
    assert err.count("\n") == 1
