"""Asking: real answers about a real file, the events on the way, and what compression saved and cost."""

import itertools
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch

import ipcv
from ipcv import IPCV, Dart, FastV, Options, Sampling, TimedFrames
from ipcv.answer import Final, FrameBatch, Opened, StageDone, Token, Warned
from ipcv.errors import MemoryExhaustedError, VideoError
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.retry import returned
from ipcv.media.clip import open_video

PLAIN = Options(compressor=None, pruner=None)
COLOUR = "What colour is the circle?"


@torch.no_grad()
def visual(model, clip, options):
    """The visual embeddings of a clip."""
    pipeline = Pipeline(model.loaded, options)
    with open_video(
        clip, options.sampling, resize=model.loaded.patches.resize, frame_batch=options.frame_batch
    ) as video:
        return returned(pipeline.encode(video, pipeline.clock())).visual.tokens


def test_the_demo_model_answers_questions_about_a_file(demo, clip, truth):
    for question, answer in truth.items():
        assert demo.ask(clip, question, PLAIN).answer == answer
    assert demo.ask(clip, COLOUR).answer == truth[COLOUR]  # compressed


def test_events_tell_the_story_in_order(demo, clip):
    events = list(demo.stream(clip, COLOUR, Options(frame_batch=4)))
    kinds = [kind for kind, _ in itertools.groupby(events, key=type)]
    assert kinds[0] is Warned
    assert kinds[-1] is Final
    assert [event.frames_done for event in events if isinstance(event, FrameBatch)] == [4, 8]
    assert next(event for event in events if isinstance(event, Opened)).frames == 8
    names = [event.stage.name for event in events if isinstance(event, StageDone)]
    assert names == ["read", "preprocess", "encode", "prefill", "generate"]
    text = "".join(event.text for event in events if isinstance(event, Token))
    assert text == events[-1].answer.answer
    assert events[-1].answer == replace(demo.ask(clip, COLOUR, Options(frame_batch=4)), stages=events[-1].answer.stages)


def test_the_dense_encoder_in_batches_equals_the_dense_encoder_in_one_go(demo, clip):
    whole, parts = (visual(demo, clip, replace(PLAIN, frame_batch=size)) for size in (16, 2))
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_compression_that_keeps_everything_changes_nothing(demo, clip):
    everything = Options(compressor=IPCV(keep=1, reuse=0.0), pruner=Dart(keep=1))
    answer, plain = demo.ask(clip, COLOUR, everything), demo.ask(clip, COLOUR, PLAIN)
    assert answer.answer == plain.answer
    assert answer.savings.total_flops == 1
    assert answer.savings.cache_share == 1


@pytest.mark.parametrize("pruner", [Dart(keep=0.5), FastV(keep=0.5, layer=2), None])
def test_savings_fall_with_what_is_computed(demo, clip, pruner):
    answer = demo.ask(clip, COLOUR, Options(compressor=IPCV(keep=0.35), pruner=pruner))
    stages = {stage.name: stage for stage in answer.stages}
    patches = stages["encode"].tokens_in
    assert patches == 4 * answer.frames.visual_tokens
    assert stages["encode"].tokens_computed == int(patches * 0.35)
    assert 0 < answer.savings.encode_flops < 1
    assert (answer.savings.prefill_flops < 1) == (pruner is not None)
    assert (answer.savings.cache_share < 1) == (pruner is not None)
    assert all(stage.seconds > 0 for stage in answer.stages)


def test_leaving_a_stream_early_leaves_the_model_as_it_was(demo, clip):
    before = demo.ask(clip, COLOUR, PLAIN)
    stream = demo.stream(clip, COLOUR)
    for event in stream:
        if isinstance(event, FrameBatch):
            break
    stream.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in demo.loaded.network.modules())
    assert demo.ask(clip, COLOUR, PLAIN).answer == before.answer


def test_the_language_model_gets_the_right_positions_in_prefill_and_in_every_step(demo, clip):
    seen = []
    language = demo.loaded.network.model.language_model
    handle = language.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"][:, 0].T.tolist()), with_kwargs=True
    )
    try:
        answer = demo.ask(clip, "Describe the video.", Options(sampling=Sampling(fps=8)))
    finally:
        handle.remove()
    rows, columns, times = answer.frames.height // 28, answer.frames.width // 28, len(answer.frames.times) // 2
    assert times > max(rows, columns)  # where transformers 5 goes wrong
    prompt, steps = seen[0], seen[1:]
    visual = rows * columns * times
    before = next(at for at, place in enumerate(prompt) if len(set(place)) > 1) - 1  # the first visual token's place
    after = len(prompt) - visual - before
    naive = oracle.places(before, ("video", times, 2 * rows, 2 * columns), after + len(steps))
    assert [*prompt, *(step[0] for step in steps)] == [list(place) for place in naive]


def test_frames_in_memory_are_a_video_too(demo, frames, truth):
    answer = demo.ask(TimedFrames(frames.frames, frames.times), COLOUR)
    assert answer.answer == truth[COLOUR]
    assert answer.video.reader == "memory"
    assert answer.frames.times == tuple(frames.times)


def test_what_is_no_video_is_refused(demo, frames):
    with pytest.raises(TypeError, match=r"a path or ipcv\.TimedFrames, not ndarray"):
        demo.ask(frames.frames, COLOUR)


def test_a_prompt_longer_than_the_context_is_a_warning(demo, clip, monkeypatch):
    monkeypatch.setattr(demo.loaded.network.config.text_config, "max_position_embeddings", 100)
    assert any("context of 100" in warning for warning in demo.ask(clip, COLOUR).warnings)


def test_an_answer_that_is_cut_off_says_so(demo, clip):
    answer = demo.ask(clip, "Describe the video.", Options(max_new_tokens=2))
    assert answer.finish_reason == "length"
    assert answer.warnings[-1] == "the answer was cut off at 2 new tokens: raise max_new_tokens"
    whole = demo.ask(clip, "Describe the video.")
    assert whole.finish_reason == "stop"
    assert not any("cut off" in warning for warning in whole.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(compressor=IPCV(layer=40)), "past the encoder's last block"),
        (Options(pruner=FastV(layer=40)), "past the language model's last layer"),
        (Options(max_pixels=10), "max_pixels must be"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused_before_anything_is_read(demo, options, message):
    with pytest.raises(ValueError, match=message):
        demo.ask("no-such-file.mp4", COLOUR, options)


@pytest.mark.parametrize("use", [lambda model, *how: model.ask(how[0], COLOUR, how[1]), ipcv.Model.encode])
def test_nothing_kept_of_a_short_last_batch_is_an_error_before_anything_is_encoded(demo, clip, use):
    def fail(*args):
        raise AssertionError("encoded")

    handle = demo.loaded.network.model.visual.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ValueError, match="of a batch of 100 patches keeps none"):
            use(demo, clip, Options(compressor=IPCV(keep=0.009), frame_batch=6))
    finally:
        handle.remove()


def test_a_second_question_while_one_is_being_answered_is_refused(demo, clip):
    stream = demo.stream(clip, COLOUR)
    next(stream)
    with pytest.raises(ValueError, match="answering another question"):
        demo.ask(clip, COLOUR, PLAIN)
    stream.close()
    assert demo.ask(clip, COLOUR, PLAIN).savings.total_flops == 1


@pytest.mark.parametrize(
    "setting",
    [
        {"frame_batch": 3},
        {"frame_batch": 0},
        {"max_pixels": 0},
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"seed": -1},
        {"repeats": 0},
        {"repeats": 3},
    ],
)
def test_bad_options_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Options(**setting)


def test_a_missing_file_is_a_video_error(demo):
    with pytest.raises(VideoError):
        demo.ask("no-such-file.mp4", COLOUR)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_says_what_would_help(demo, clip, error):
    def full(*args):
        raise error

    handle = demo.loaded.network.model.visual.register_forward_pre_hook(full)
    try:
        with pytest.raises(MemoryExhaustedError, match="max_frames"):
            demo.ask(clip, COLOUR)
    finally:
        handle.remove()
    assert demo.ask(clip, COLOUR).answer


def test_more_frames_mean_more_batches_and_nothing_else(demo, clip):
    answer = demo.ask(clip, COLOUR, Options(sampling=Sampling(fps=8), frame_batch=6))
    assert len(answer.frames.times) == 32
    assert np.allclose(np.diff(answer.frames.times), 1 / 8)
    assert answer.frames.visual_tokens == 16 * answer.frames.height * answer.frames.width // 28**2


def test_the_library_names_what_it_offers():
    assert all(hasattr(ipcv, name) for name in ipcv.__all__)
