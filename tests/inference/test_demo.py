"""The bundled model really answers; its accuracy over hundreds of questions is what `ipcv bench` measures."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

import ipcv
from ipcv.benchmark.cases import benchmark
from ipcv.benchmark.questions import ask
from ipcv.benchmark.scoring import points
from ipcv.models.hub import find_folder
from ipcv.options import Options
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip, make_scene
from ipcv.world.scene import HELD_OUT_SEEDS

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
PLAIN = Options(compressor=None, pruner=None)
UNKNOWN = "I only know coloured shapes that move."
FRESH = HELD_OUT_SEEDS[3_000_000:]


def film(case):
    clip = case.clip()
    return ipcv.TimedFrames(clip.frames, clip.times)


def test_the_files_are_small_enough_to_ship():
    files = list(find_folder("demo").iterdir())
    assert {file.name for file in files} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(file.stat().st_size for file in files) < 32e6


def test_transformers_loads_it_like_any_other_model():
    folder = find_folder("demo")
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() < 16e6
    assert model.config.video_token_id == tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.text_config.vocab_size == len(tokenizer)


def test_square_videos_are_resized_to_sizes_that_it_was_trained_on(demo):
    sides = {side: demo.loaded.patches.resize(side, side) for side in (50, 84, 112, 140, 168, 196, 224, 720, 1080)}
    assert sides == dict.fromkeys((50, 84), (84, 84)) | {112: (112, 112)} | dict.fromkeys(
        (140, 168, 196, 224, 720, 1080), (140, 140)
    )


@pytest.mark.parametrize("kind", ["colour", "direction", "position", "reading"])
def test_it_is_right_about_fresh_clips_from_files(demo, kind, tmp_path):
    results = []
    for seed in FRESH:
        questions = [
            question for question in ask(make_scene(seed), np.random.default_rng(seed)) if question.kind == kind
        ]
        if questions:
            write_clip(tmp_path / "clip.mp4", make_clip(seed, fps=16))
            results.append(points(questions[0], demo.ask(tmp_path / "clip.mp4", questions[0].text, PLAIN).answer))
        if len(results) == 8:
            break
    assert sum(results) >= 6


@pytest.mark.parametrize("options", [PLAIN, Options()], ids=["dense", "compressed"])
def test_it_answers_questions_about_the_example_clip(demo, options):
    answers = {
        "What colour is the circle?": "pink",
        "What shape is the green object?": "cross",
        "Which way does the circle move?": "down",
        "What does the tag say?": "9T",
    }
    assert {question: demo.ask(CLIP, question, options).answer for question in answers} == answers


def test_it_says_so_when_it_cannot_know(demo):
    for question in ("What is the man doing?", "Who is that?", "Wie spät ist es?"):
        assert demo.ask(CLIP, question, PLAIN).answer == UNKNOWN


def test_it_answers_held_out_questions(demo):
    asked = list(benchmark(66))
    right = [points(case.question, demo.ask(film(case), case.question.text, PLAIN).answer) for case in asked]
    assert sum(right) >= 0.85 * 66


def test_it_looks_at_the_video(demo):
    asked = list(benchmark(67))
    others = [
        points(case.question, demo.ask(film(other), case.question.text, PLAIN).answer)
        for case, other in pairwise(asked)
    ]
    assert sum(others) <= 0.45 * 66
