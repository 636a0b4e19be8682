"""The demo model's training script: its shortcuts must compute what the model itself computes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ipcv.compressor import IPCV
from ipcv.preprocess import PatchSettings
from ipcv.prompt import build_prompt
from ipcv.world import make_clip, make_scene

sys.path.append(str(Path(__file__).parent.parent / "examples"))
import demo_data
import demo_text
import demo_vision
import train_demo
from demo_export import export
from train_demo import Trainer, run_stage


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return Trainer(tmp_path_factory.mktemp("run"), torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(trainer, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    export(trainer.model, trainer.tokenizer, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("keep", [1.0, 0.35])
def test_the_batched_encoder_is_the_models_own_on_the_same_patches(trainer, folder, keep):
    clips = [make_clip(3).frames, make_clip(4).frames]
    batched = trainer.see(
        torch.from_numpy(np.stack(clips)).unflatten(1, (-1, 2)), None, IPCV(keep=keep) if keep < 1 else None
    )
    for frames, tokens in zip(clips, batched, strict=True):
        patches, grid = PatchSettings.from_folder(folder).patches(torch.from_numpy(frames))
        with IPCV(keep=keep)(trainer.model):
            own = trainer.model.model.visual(patches, grid_thw=torch.tensor([grid])).pooler_output
        assert torch.allclose(tokens.flatten(0, 1), own, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("pairs", "system"), [(4, None), (6, None), (2, "Answer in one word.")])
def test_questions_that_share_a_video_are_scored_as_if_each_were_asked_alone(trainer, pairs, system):
    asked = [("What colour is the circle?", "red"), ("Describe it", "A red circle moves left."), ("Hm?", "two")]
    tokens = torch.randn(1, pairs, 16, 192)
    together, labels = trainer.answer(tokens, [demo_text.pack(trainer.tokenizer, asked)], system)
    alone = [trainer.answer(tokens, [demo_text.pack(trainer.tokenizer, [pair])], system)[0] for pair in asked]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert trainer.tokenizer.decode(labels) == "red<|im_end|>A red circle moves left.<|im_end|>two<|im_end|>"


def test_training_prompts_are_the_chat_templates(trainer):
    tokenizer, question = trainer.tokenizer, "What colour is the circle?"
    for system in (None, "Answer in one word."):
        rows = demo_text.pack(tokenizer, [(question, "red")])
        shown = [*demo_text.prefix(tokenizer, 16, system), *(token for token, *_ in rows)]
        prompt = build_prompt(tokenizer, trainer.model.config, question, 16, system)
        assert shown == [*prompt.ids[0].tolist(), *tokenizer("red").input_ids]


def test_cells_are_labelled_with_the_object_that_they_show():
    scene = next(s for s in map(make_scene, range(100)) if len(s.things) == 1 and s.things[0].motion == "still")
    (thing,) = scene.things
    colour, shape, motion, centres = demo_vision.cell_labels(scene.things, (0.0, 0.5)).reshape(4, 4, 4)
    column, row = (int(c * 4) for c in thing.centre(0))
    assert demo_vision.LABELS["colour"][colour[row, column] - 1] == thing.colour
    assert demo_vision.LABELS["shape"][shape[row, column] - 1] == thing.shape
    assert demo_vision.LABELS["motion"][motion[row, column] - 1] == "still"
    assert centres[row, column] == centres.sum() == 1
    assert {0} < set(colour.flat) <= {-100, 0, colour[row, column]}


@pytest.mark.parametrize(
    "text", ["What colour is it?", "Größe 你好 🎉\n\ttwo  spaces", "e\u0301", "", "zebra's 42,000"]
)
def test_the_tokenizer_gives_any_text_back(trainer, text):
    assert trainer.tokenizer.decode(trainer.tokenizer(text).input_ids) == text


def test_words_of_the_world_are_single_tokens(trainer):
    for text in ("What colour is the circle?", "A red square stays still and a white triangle moves up."):
        assert len(trainer.tokenizer(text).input_ids) == len(text.replace("?", " ?").replace(".", " .").split())


def test_drawn_questions_have_the_right_answers_and_some_have_none():
    rng = np.random.default_rng(0)
    drawn = [pair for seed in range(60) for pair in demo_text.draw_pairs(make_scene(seed).things, rng, 6)]
    unknown = [question for question, answer in drawn if answer == demo_text.UNKNOWN]
    assert 5 < len(unknown) < 40
    assert any(answer.startswith("there is no ") for _, answer in drawn)
    assert {answer for _, answer in drawn} > {"red", "circle", "left", "it stays still", "two"}


@pytest.mark.parametrize("stage", ["encoder", "decoder", "joint"])
def test_a_broken_run_goes_on_where_it_stopped(stage, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(demo_data.BATCH, stage, 4)
    monkeypatch.setattr(train_demo, "SAVE", 2)

    def train(name, resume=False):
        trainer = Trainer(tmp_path / name, torch.device("cpu"))
        (tmp_path / name).mkdir(exist_ok=True)
        run_stage(trainer, stage, 3, 1e-3, 8, trainer.load() if resume else None)
        return trainer.model.state_dict()

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", lambda trainer, save=Trainer.save: (save(trainer), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            train("broken")
    resumed = train("broken", resume=True)
    assert all(torch.allclose(resumed[name], weight, atol=1e-5) for name, weight in whole.items())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == 3
