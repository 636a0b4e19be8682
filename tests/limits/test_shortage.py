"""Memory that really runs out: the frame batch is halved, then the budget, and then it is given up with advice."""

import json
import subprocess
import sys

import commands
import pytest
from probes import hungry

from ipcv import MemoryExhaustedError, Options, Sampling
from ipcv.answer import Opened, Warned
from ipcv.encodings.cache import EncodingCache
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"
SCENE = 2**32 - 568
LIMITED = """
import json, resource, sys
import numpy as np
import torch
import ipcv
from ipcv.world.random_scene import make_clip

def size(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))

def ask(batch, limit=resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        answer = model.ask(frames, "What colour is the circle?", ipcv.Options(frame_batch=batch))
        return {"answer": answer.answer, "warnings": answer.warnings}
    except ipcv.MemoryExhaustedError as error:
        return {"exhausted": str(error)}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

torch.set_num_threads(1)
model = ipcv.load("demo", offline=True)
scene = make_clip(int(sys.argv[1]))
frames = ipcv.TimedFrames(np.repeat(scene.frames, 32, axis=0), [place / 64 for place in range(32 * len(scene.frames))])
found = {"half": ask(128)}
half = size("VmPeak")
found["enough"] = ask(256)
whole = size("VmPeak")
found["too little"] = ask(256, (half + whole) // 2)
found["next to none"] = ask(256, size("VmSize") + 2**21)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def limited():
    """Answers about 256 frames in a process whose memory is limited: halfway between the needs of 128 and of 256."""
    environment = commands.environment(MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536")  # what is freed goes back
    command = [sys.executable, "-c", LIMITED, str(SCENE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_with_too_little_memory_the_frame_batch_is_halved_and_the_answer_is_that_of_the_smaller_one(limited):
    told = [text for text in limited["too little"]["warnings"] if "memory ran out" in text]
    assert len(told) == 1
    assert told[0].startswith("memory ran out with 256 frames at a time: encoded 128 at a time")
    assert limited["too little"]["answer"] == limited["half"]["answer"]


def test_with_next_to_none_it_is_given_up_with_advice(limited):
    assert "lower max_frames, max_pixels or frame_batch" in limited["next to none"]["exhausted"]


def test_with_enough_nothing_is_halved(limited):
    assert not [text for text in limited["enough"]["warnings"] if "memory" in text]


def test_what_a_failed_batch_kept_does_not_count(demo, clip):
    options = Options(sampling=Sampling(fps=8), frame_batch=32)
    with hungry(demo.loaded.network.model.visual.blocks[-1], lambda kept: 46 if kept > 100 else 1):
        answer = demo.ask(clip, COLOUR, options)
    small = demo.ask(clip, COLOUR, Options(sampling=Sampling(fps=8), frame_batch=4))
    assert [warning for warning in answer.warnings if "4 at a time" in warning]
    assert answer.videos == small.videos
    assert answer.answer == small.answer
    assert answer.savings.encode_flops == small.savings.encode_flops


def test_where_one_pair_of_frames_is_too_much_pixels_are_halved(demo, clip):
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda patches: 46 if patches > 60 else 1):
        events = list(demo.stream(clip, COLOUR))
    answer = events[-1].answer
    assert answer.frames.height * answer.frames.width <= 140 * 140 // 2
    told = "memory ran out with 2 frames of 140 x 140 pixels: starting again with 9,800 pixels a frame at most"
    assert told in answer.warnings
    assert [event.message for event in events if isinstance(event, Warned)] == list(answer.warnings)
    assert sum(isinstance(event, Opened) for event in events) == 2


def test_encode_starts_again_with_fewer_pixels_as_ask_does(demo, clip):
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda patches: 46 if patches > 60 else 1):
        encoded = demo.encode(clip)
        answer = demo.ask(clip, COLOUR)
    assert encoded.size == (answer.frames.height, answer.frames.width)
    assert encoded.size[0] * encoded.size[1] <= 140 * 140 // 2
    told = "memory ran out with 2 frames of 140 x 140 pixels: starting again with 9,800 pixels a frame at most"
    assert told in encoded.warnings
    with pytest.raises(MemoryExhaustedError), hungry(demo.loaded.network.model.visual.blocks[0], lambda _: 46):
        demo.encode(clip)


def test_where_the_prompt_is_too_long_the_budget_is_halved(demo, clip, truth):
    options = Options(sampling=Sampling(fps=8))
    with hungry(demo.loaded.network.get_decoder(), lambda tokens: 46 if tokens > 250 else 1):
        answer = demo.ask(clip, COLOUR, options)
    assert (answer.budget.limit, answer.budget.source) == (200, "memory")
    assert answer.frames.visual_tokens <= 200
    assert "memory ran out with 400 visual tokens: starting again with 200 at most" in answer.warnings
    assert any("the 200 that memory allows; lowered: frames from 32 to 16" in told for told in answer.warnings)
    assert answer.answer == truth[COLOUR]


def test_what_was_lowered_for_memory_is_not_cached(demo, clip, tmp_path):
    cache = EncodingCache(tmp_path / "cache")
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda patches: 46 if patches > 60 else 1):
        *_, _ = demo.stream(clip, COLOUR, cache=cache)
    assert not cache.entries()
    *_, last = demo.stream(clip, COLOUR, cache=cache)
    assert last.answer.frames.height == 140


def test_what_was_encoded_in_smaller_batches_is_not_cached(demo, clip, tmp_path):
    cache = EncodingCache(tmp_path / "cache")
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda patches: 46 if patches > 200 else 1):
        *_, last = demo.stream(clip, COLOUR, cache=cache)
    assert any("encoded 4 at a time" in warning for warning in last.answer.warnings)
    assert not cache.entries()


def test_other_errors_are_not_tried_again(demo, clip):
    passes = []

    def fail(*_):
        passes.append(1)
        raise RuntimeError("a bug")

    handle = demo.loaded.network.model.visual.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="a bug"):
            demo.ask(clip, COLOUR)
    finally:
        handle.remove()
    assert len(passes) == 1


def test_given_up_it_is_code_6_with_advice_and_the_model_is_as_it_was(demo, clip, truth, monkeypatch, capsys):
    monkeypatch.setattr("ipcv.inference.load.read_model", lambda *_: demo.loaded)
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda _: 46):
        assert main(["ask", str(clip), COLOUR, "--model", "demo"]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "ipcv: warning: memory ran out with 8 frames at a time: encoded 4 at a time from there on" in err
    assert err.splitlines()[-1].startswith("ipcv: error: out of memory while answering: lower --max-frames")
    with pytest.raises(MemoryExhaustedError), hungry(demo.loaded.network.get_decoder(), lambda _: 46):
        demo.ask(clip, COLOUR)
    assert demo.ask(clip, COLOUR).answer == truth[COLOUR]
