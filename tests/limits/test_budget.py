"""The budget of visual tokens: what is lowered for it, in which order, and that it is then met for real."""

import json
from dataclasses import replace

import jsonschema
import pytest
from family_folders import CASES, save
from hypothesis import given
from hypothesis import strategies as st

import ipcv
from ipcv import DTD, EVS, Options, Reused, Sampling, TimedFrames, VidCom2
from ipcv.answer import FrameBatch
from ipcv.architecture.preprocess import PatchSettings
from ipcv.encodings.cache import EncodingCache
from ipcv.limits.budget import KEEP, ORDER, PICTURE, Budget, Limit, Lowered, Share, allot, explain
from ipcv.limits.extent import Extent
from ipcv.limits.extent import lower as lower_to
from ipcv_cli.display.stdout import answer_schema
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"
HOUR = Extent(
    frames=3600, height=720, width=1280, patches=PatchSettings().limited(448 * 448, strict=False), reducer=None
)
REDUCERS = [EVS(), DTD(), DTD(keep=0.5), VidCom2()]


def meet(extent, limit, seconds, **how):
    return lower_to(extent, Limit(visual=limit, source="option"), seconds, **how)


def steps(lowered):
    return [each.what for each in lowered]


def test_what_fits_stays_as_it_is():
    assert meet(HOUR, HOUR.tokens, 3599.0, may_reduce=True) == (HOUR, ())


def test_frames_go_first_to_one_per_second_and_no_further_than_needed():
    dense = replace(HOUR, frames=7200)
    half, lowered = meet(dense, HOUR.tokens, 3599.5, may_reduce=True)
    assert (steps(lowered), half.frames, half.pixels) == (["frames"], 3600, HOUR.pixels)
    less, lowered = meet(dense, int(HOUR.tokens * 1.5), 3599.5, may_reduce=True)
    assert (steps(lowered), less.frames) == (["frames"], 5400)


def test_then_pixels_to_so_many_tokens_a_picture():
    less, lowered = meet(HOUR, int(HOUR.tokens * 0.8), 3599.0, may_reduce=True)
    assert (steps(lowered), less.frames, less.reducer) == (["pixels"], 3600, None)
    assert 0.7 * HOUR.tokens < less.tokens <= 0.8 * HOUR.tokens
    least, lowered = meet(HOUR, 1800 * 100, 3599.0, may_reduce=True)
    assert steps(lowered)[:2] == ["pixels", "keep"]
    assert 0.8 * PICTURE <= least.pixels / 28**2 <= PICTURE


def test_then_what_stays_in_the_prompt_to_a_quarter():
    less, lowered = meet(HOUR, 100_000, 3599.0, may_reduce=True)
    assert steps(lowered) == ["pixels", "keep"]
    assert isinstance(less.reducer, EVS)
    assert KEEP < less.reducer.keep < 1
    _, lowered = meet(HOUR, 50_000, 3599.0, may_reduce=True)
    assert steps(lowered) == ["pixels", "keep", "frames"]
    assert lowered[1].after == KEEP


def test_then_frames_to_as_few_as_it_takes_and_at_last_pixels():
    less, lowered = meet(HOUR, 32_000, 3599.0, may_reduce=True)
    assert steps(lowered) == ["pixels", "keep", "frames"]
    assert 31_000 < less.tokens <= 32_000
    least, lowered = meet(HOUR, 10, 3599.0, may_reduce=True)
    assert steps(lowered) == ["pixels", "keep", "frames", "pixels"]
    assert (least.frames, least.tokens) == (2, 8)


def test_nothing_is_left_out_of_the_prompt_of_the_plain_model():
    less, lowered = meet(HOUR, 32_000, 3599.0, may_reduce=False)
    assert (steps(lowered), less.reducer) == (["pixels", "frames"], None)


def test_what_is_encoded_already_can_only_be_left_out():
    less, lowered = meet(HOUR, 32_000, 3599.0, may_reduce=True, only_reduce=True)
    assert (steps(lowered), less.frames, less.pixels) == (["keep"], HOUR.frames, HOUR.pixels)
    assert less.tokens > 32_000


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_a_reducer_of_ones_own_is_lowered_and_not_replaced(reducer):
    less, lowered = meet(replace(HOUR, reducer=reducer), 50_000, 3599.0, may_reduce=True)
    assert type(less.reducer) is type(reducer)
    assert all(each.before > each.after for each in lowered)


def test_a_reducer_that_goes_by_the_video_alone_is_not_lowered():
    less, lowered = meet(replace(HOUR, reducer=Reused()), 50_000, 3599.0, may_reduce=True)
    assert (steps(lowered), less.reducer) == (["pixels", "frames"], Reused())
    assert less.tokens == less.pictures * less.of_picture <= 50_000
    same, lowered = meet(replace(HOUR, reducer=Reused()), 50_000, 3599.0, may_reduce=True, only_reduce=True)
    assert (same.tokens, lowered) == (HOUR.tokens, ())


@given(
    frames=st.integers(1, 4000).map(lambda count: 2 * count),
    seconds=st.floats(0, 8000),
    limit=st.integers(1, 500_000),
    height=st.integers(32, 2000),
    width=st.integers(32, 2000),
    reducer=st.sampled_from([None, *REDUCERS]),
    may_reduce=st.booleans(),
)
def test_the_limit_is_met_or_everything_is_at_its_least(frames, seconds, limit, height, width, reducer, may_reduce):
    extent = replace(HOUR, frames=frames, height=height, width=width, reducer=reducer)
    less, lowered = meet(extent, limit, seconds, may_reduce=may_reduce)
    assert less.frames % 2 == 0
    assert 2 <= less.frames <= frames
    assert less.pixels <= extent.pixels
    assert bool(lowered) == (less != extent)
    if lowered:
        assert lowered[-1].visual_tokens == less.tokens
    if less.tokens > limit:
        assert (less.frames, less.pixels) == (2, replace(less, patches=PatchSettings(max_pixels=56 * 56)).pixels)


@given(asked=st.lists(st.integers(1, 1000), min_size=1, max_size=8), limit=st.integers(8, 5000))
def test_shares_are_fair(asked, limit):
    shares = allot(asked, limit)
    assert sum(shares) <= limit
    assert all(share <= count for share, count in zip(shares, asked, strict=True))
    short = [share for share, count in zip(shares, asked, strict=True) if share < count]
    assert not short or (max(shares) - min(short) <= 1 and sum(shares) > limit - len(asked))


@pytest.mark.parametrize("reducer", [EVS(keep=0.3), DTD(keep=0.4), VidCom2(keep=0.3)], ids=str)
def test_a_reducer_keeps_no_more_than_it_says(demo, clip, reducer):
    answer = demo.ask(clip, COLOUR, Options(reducer=reducer, sampling=Sampling(fps=8)))
    pictures, tokens = len(answer.frames.times) // 2, answer.frames.height * answer.frames.width // 28**2
    assert answer.frames.visual_tokens <= reducer.most(pictures, tokens) < pictures * tokens


# ------------------------------------------------------------------------------------------- for real


@pytest.mark.parametrize(
    ("limit", "lowered"),
    [(400, []), (250, ["frames"]), (40, ["frames", "keep"]), (20, ["frames", "keep", "frames", "pixels"])],
)
def test_the_prompt_has_no_more_and_the_answer_says_what_was_lowered(demo, clip, limit, lowered):
    answer = demo.ask(clip, COLOUR, Options(max_visual_tokens=limit, sampling=Sampling(fps=8)))
    share = answer.videos[0].budget
    assert answer.budget == Budget(limit=limit, source="option", asked=400)
    assert (share.asked, share.limit, steps(share.lowered)) == (400, limit, lowered)
    assert answer.frames.visual_tokens <= limit
    assert answer.frames.visual_tokens >= 0.8 * limit
    told = [warning for warning in answer.warnings if "visual tokens are more than" in warning]
    assert len(told) == bool(lowered)
    assert all(f"the {limit} that max_visual_tokens allows" in warning and ORDER[0] in warning for warning in told)


def test_the_answer_is_right_on_a_tenth_of_the_tokens(demo, clip, truth):
    answer = demo.ask(clip, COLOUR, Options(max_visual_tokens=40, sampling=Sampling(fps=8)))
    assert answer.answer == truth[COLOUR]
    assert answer.frames.visual_tokens <= 40


def test_the_default_is_what_the_models_context_leaves(demo, clip, monkeypatch):
    assert demo.ask(clip, COLOUR).budget == Budget(limit=8192 - 512 - 256, source="context", asked=100)
    monkeypatch.setattr(demo.loaded.network.config.text_config, "max_position_embeddings", 512 + 256 + 50)
    answer = demo.ask(clip, COLOUR)
    assert (answer.budget.limit, answer.budget.source) == (50, "context")
    assert answer.frames.visual_tokens <= 50
    assert any("the 50 that the model's context leaves room for" in warning for warning in answer.warnings)


def test_several_share_it_and_the_small_one_is_left_alone(demo, clip, clips, frames):
    picture = TimedFrames(frames.frames[:2], frames.times[:2])
    answer = demo.ask([clip, picture, clips / "0.mp4"], COLOUR, Options(max_visual_tokens=150))
    assert [each.budget.limit for each in answer.videos] == [62, 25, 63]
    assert [bool(each.budget.lowered) for each in answer.videos] == [True, False, True]
    assert sum(each.frames.visual_tokens for each in answer.videos) <= 150
    told = next(warning for warning in answer.warnings if "visual tokens are more than" in warning)
    assert f"of {clip} frames" in told


def test_frames_in_memory_are_thinned_evenly(demo, frames):
    options = Options(max_visual_tokens=50, compressor=None, pruner=None)
    answer = demo.ask(TimedFrames(frames.frames, frames.times), COLOUR, options)
    assert answer.frames.times == tuple(frames.times[index] for index in (0, 2, 5, 7))


def test_a_file_can_be_lowered_to_one_frame_where_frames_are_encoded_one_by_one(clip, tmp_path):
    save(CASES["internvl"], tmp_path)
    options = Options(compressor=None, pruner=None, max_visual_tokens=16, max_new_tokens=2)
    answer = ipcv.load(str(tmp_path)).ask(clip, COLOUR, options)
    assert (answer.frames.times, answer.frames.visual_tokens) == ((0.0,), 16)


def test_a_limit_that_cannot_be_met_is_refused(demo, clip):
    with pytest.raises(ValueError, match=r"3 visual tokens are too few: .*scene\.mp4 has 9 at least"):
        demo.ask(clip, COLOUR, Options(max_visual_tokens=3))


def test_the_baseline_sees_the_same_tokens(demo, clip):
    answer = demo.ask(clip, COLOUR, Options(max_visual_tokens=50, baseline=True, repeats=1))
    assert steps(answer.videos[0].budget.lowered) == ["frames"]
    dense = {stage.name: stage for stage in answer.savings.baseline.stages}
    assert dense["prefill"].tokens_in == {stage.name: stage for stage in answer.stages}["prefill"].tokens_in


def test_an_encoding_has_its_frames_chosen_and_still_loses_tokens(demo, clip):
    encoded = demo.encode(clip, Options(sampling=Sampling(fps=8)))
    answer = demo.ask(encoded, COLOUR, Options(sampling=Sampling(fps=8), max_visual_tokens=150))
    assert steps(answer.videos[0].budget.lowered) == ["keep"]
    assert answer.frames.visual_tokens <= 150
    with pytest.raises(ValueError, match="too few"):
        demo.ask(encoded, COLOUR, Options(sampling=Sampling(fps=8), max_visual_tokens=50))


@pytest.mark.parametrize("room", [50, 70, 200])
def test_a_cache_gives_what_would_be_encoded(demo, clip, tmp_path, monkeypatch, room):
    cache = EncodingCache(tmp_path / "cache")
    config = demo.loaded.network.config.text_config
    monkeypatch.setattr(config, "max_position_embeddings", 512 + 256 + 70)
    *_, first = demo.stream(clip, COLOUR, cache=cache)
    assert first.answer.budget.limit == 70
    monkeypatch.setattr(config, "max_position_embeddings", 512 + 256 + room)
    *events, last = demo.stream(clip, COLOUR, cache=cache)
    assert any(isinstance(event, FrameBatch) for event in events) == (room != 70)
    fresh = demo.ask(clip, COLOUR)
    assert (last.answer.answer, replace(last.answer.videos[0], reused=False)) == (fresh.answer, fresh.videos[0])
    assert set(last.answer.warnings) == set(fresh.warnings)


def test_it_is_explained_in_the_json_and_on_stderr(clip, capsys):
    arguments = ["ask", str(clip), COLOUR, "--model", "demo", "--json", "--max-visual-tokens", "40"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, answer_schema(stream=False))
    assert found["budget"] == {"limit": 40, "source": "option", "asked": 100, "text": 0, "order": list(ORDER)}
    assert [each["what"] for each in found["videos"][0]["budget"]["lowered"]] == ["frames", "keep"]
    assert found["settings"]["max_visual_tokens"] == 40
    assert "100 visual tokens are more than the 40 that --max-visual-tokens allows; lowered: frames from" in err


def test_a_limit_that_makes_no_sense_is_code_2(clip, capsys):
    for limit in ("0", "3"):
        assert main(["ask", str(clip), COLOUR, "--model", "demo", "--max-visual-tokens", limit]) == 2


def test_the_explanation_names_what_it_is_about():
    share = Share(asked=9, limit=5, lowered=(Lowered(what="pixels", before=200_704, after=100_352, visual_tokens=5),))
    (one,) = explain(Budget(limit=5, source="memory", asked=9), [("a.mp4", share)])
    assert one.startswith("9 visual tokens are more than the 5 that memory allows; lowered: pixels from 200,704 to 1")
    (two,) = explain(Budget(limit=5, source="context", asked=9), [("a.mp4", share), ("b.mp4", Share(asked=1, limit=1))])
    assert "lowered: of a.mp4 pixels" in two
