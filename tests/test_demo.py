"""The bundled model really answers; its accuracy over hundreds of questions is what `ipcv bench` measures."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

import ipcv
from ipcv.answer import Options
from ipcv.load import find_folder
from ipcv.questions import benchmark
from ipcv.world import make_clip

CLIP = Path(__file__).parent.parent / "examples" / "clip.mp4"
PLAIN = Options(compressor=None, pruner=None)


def film(seed):
    clip = make_clip(seed)
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
    assert sum(file.stat().st_size for file in files) < 12e6


def test_transformers_loads_it_like_any_other_model():
    folder = find_folder("demo")
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.video_token_id == tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.text_config.vocab_size == len(tokenizer)


def test_square_videos_of_any_size_are_resized_to_the_training_size(demo):
    for side in (50, 112, 224, 240, 256, 720, 1080):
        assert demo.loaded.patches.resize(side, side) == (112, 112)


@pytest.mark.parametrize("options", [PLAIN, Options()], ids=["dense", "compressed"])
def test_it_answers_questions_about_the_example_clip(demo, options):
    answers = {
        "What colour is the circle?": "blue",
        "What shape is the purple object?": "square",
        "Which way does the triangle move?": "up",
        "How many objects are there?": "three",
        "Describe the video.": (
            "A blue circle moves right, a purple square stays still and a yellow triangle moves up."
        ),
    }
    assert {question: demo.ask(CLIP, question, options).answer for question in answers} == answers


def test_it_says_so_when_it_cannot_know(demo):
    for question in ("What is the man doing?", "Is there a dog?", "Wie spät ist es?"):
        assert demo.ask(CLIP, question).answer == "I only know coloured shapes that move."


def test_it_answers_held_out_questions(demo):
    asked = list(benchmark(40))
    right = [demo.ask(film(seed), question.text, PLAIN).answer == question.answer for seed, question in asked]
    assert sum(right) >= 36


def test_it_looks_at_the_video(demo):
    asked = [(seed, question) for seed, question in benchmark(40) if question.kind == "caption"]
    others = [demo.ask(film(seed + 1), question.text, PLAIN).answer for seed, question in asked]
    assert not any(other == question.answer for other, (_, question) in zip(others, asked, strict=True))
