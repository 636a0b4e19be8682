"""What a model's context leaves for visual tokens, beside the text that some families write for each picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from transformers import AutoTokenizer

import ipcv
from ipcv import Options, TimedFrames
from ipcv.encodings.cache import EncodingCache
from ipcv.families import find_language
from ipcv.limits.context import PromptLimits, picture_text
from ipcv.limits.measure import PictureText
from ipcv.models.hub import find_folder

QUESTION = "What colour is the circle?"
CONTEXT = 1024  # tokens
PIXELS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "min_pixels": 64, "max_pixels": 64 * 64}
QWEN = PIXELS | {"patch_size": tiny.PATCH, "temporal_patch_size": tiny.FRAMES, "merge_size": 2}
TOKENS = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
PLAIN = Options(compressor=None, pruner=None, max_new_tokens=4, frame_batch=32)


@pytest.fixture(scope="module")
def qwen3_vl(tmp_path_factory):
    """A tiny one with random weights and the demo model's tokenizer."""
    path = tmp_path_factory.mktemp("qwen3_vl")
    tokenizer = AutoTokenizer.from_pretrained(find_folder("demo"))
    tokenizer.save_pretrained(path)
    tiny.qwen3_vl(layers=4, width=64, words=len(tokenizer), special=TOKENS).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(QWEN))
    return ipcv.load(str(path))


def still(frames, seconds, start=0.0, size=8):
    """A black video."""
    times = np.linspace(start, start + seconds, frames).tolist()
    return TimedFrames(np.zeros((frames, size, size, 3), np.uint8), times)


def prefill_length(answer):
    return {stage.name: stage for stage in answer.stages}["prefill"].tokens_in


def is_too_long(answer):
    return any("more than the model's context" in warning for warning in answer.warnings)


def test_times_alone_that_exceed_the_context_are_fewer(qwen3_vl):
    """Two hours, a frame every half minute: a single visual token for each pair of frames, and a time of many."""
    video = still(240, 7200.0)
    answer = qwen3_vl.ask(video, QUESTION, PLAIN)
    pictures, text = len(answer.frames.times) // 2, answer.budget.text
    assert answer.budget.source == "context"
    assert answer.budget.asked == 120 < CONTEXT
    assert 120 * text // pictures > CONTEXT
    assert answer.budget.limit + text <= CONTEXT - 4
    assert prefill_length(answer) + 4 <= CONTEXT
    assert prefill_length(answer) > CONTEXT // 2
    assert not is_too_long(answer)
    (told,) = (warning for warning in answer.warnings if "visual tokens are more than" in warning)
    assert told.startswith(f"120 visual tokens are more than the {answer.budget.limit} that the model's context leaves")
    assert f"beside {text} tokens of text between the pictures; lowered: frames from 240 to" in told


def test_the_count_is_at_least_that_of_the_real_prompt_and_hardly_more(qwen3_vl):
    few, many = (qwen3_vl.ask(still(frames, 99.0, start=1200.0), QUESTION, PLAIN) for frames in (2, 40))
    real = prefill_length(many) - prefill_length(few) - 19
    assert 19 * many.budget.text / 20 >= real >= 0.9 * 19 * many.budget.text / 20


@pytest.mark.parametrize("seconds", [0.04, 9.96, 59.5, 345.67, 3600.0, 86399.9])
def test_no_time_takes_more_than_is_counted(qwen3_vl, seconds):
    tokenizer, language = qwen3_vl.loaded.tokenizer, find_language("qwen3_vl")
    text = picture_text(tokenizer, "qwen3_vl", None)
    real = len(tokenizer(language.video_text([seconds] * 3), add_special_tokens=False)["input_ids"]) - 3
    assert 0 < real <= 3 * text.most("video", seconds, 3)


def test_numbers_of_frames_count_like_times(demo):
    tokenizer, language = demo.loaded.tokenizer, find_language("internvl")
    text = picture_text(tokenizer, "internvl", None)
    real = len(tokenizer(language.video_text([0.5] * 120), add_special_tokens=False)["input_ids"])
    one = len(tokenizer("<IMG_CONTEXT>", add_special_tokens=False)["input_ids"])  # the demo's has no such token
    assert real - 120 <= 120 * text.most("video", 0.5, 120)
    assert text.most("video", 0.5, 120) >= text.most("video", 0.5, 9) > one


def test_families_without_such_text_and_images_count_none(demo, qwen3_vl):
    assert picture_text(demo.loaded.tokenizer, "qwen2_vl", None) == PictureText()
    assert picture_text(qwen3_vl.loaded.tokenizer, "qwen3_vl", None).most("image", 0.0, 1) == 0
    assert PromptLimits(demo.loaded).limit(Options(), [QUESTION]).context is None


def test_a_limit_of_ones_own_is_met_beside_the_context(qwen3_vl):
    video = still(240, 7200.0)
    free = qwen3_vl.ask(video, QUESTION, PLAIN)
    answer = qwen3_vl.ask(video, QUESTION, replace(PLAIN, max_visual_tokens=100))
    assert (answer.frames.times, answer.budget.source) == (free.frames.times, "context")
    answer = qwen3_vl.ask(video, QUESTION, replace(PLAIN, max_visual_tokens=10))
    assert (answer.budget.limit, answer.budget.source, answer.frames.visual_tokens) == (10, "option", 10)


def test_more_than_the_context_leaves_can_be_asked_for_and_is_told(qwen3_vl):
    answer = qwen3_vl.ask(still(240, 7200.0), QUESTION, replace(PLAIN, max_visual_tokens=5000))
    assert len(answer.frames.times) == 240
    assert is_too_long(answer)


def test_several_divide_the_context_with_their_times(qwen3_vl):
    answer = qwen3_vl.ask([still(240, 7200.0), still(2, 1.0), still(240, 7200.0)], QUESTION, PLAIN)
    assert prefill_length(answer) + 4 <= CONTEXT
    first, second, third = (len(each.frames.times) for each in answer.videos)
    assert second == 2
    assert abs(first - third) <= 2
    assert answer.budget.text == sum(each.budget.text for each in answer.videos)


def test_a_cache_tells_budgets_apart(demo, clip, tmp_path):
    """Whole encodings serve every limit that they fit; lowered ones only their own, and none takes another's place."""
    cache = EncodingCache(tmp_path / "cache")
    entries = []
    for limit in (None, 200, 50, 30, 50):
        options = Options(max_visual_tokens=limit, max_new_tokens=1)
        *_, last = demo.stream(clip, QUESTION, options, cache=cache)
        entries.append(len(cache.entries()))
        if limit != 200:
            assert replace(last.answer.videos[0], reused=False) == demo.ask(clip, QUESTION, options).videos[0]
    assert entries == [1, 1, 2, 3, 3]
