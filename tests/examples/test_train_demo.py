"""The demo model's training script: its shortcuts must compute what the model itself computes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from ipcv.architecture.preprocess import PatchSettings
from ipcv.benchmark.questions import ask, names
from ipcv.models.prompt import build_prompt
from ipcv.world.random_scene import make_scene
from ipcv.world.scene import TRAINING_SEEDS

sys.path.append(str(Path(__file__).parents[2] / "examples"))
import demo_data
import demo_text
import demo_vision
import demo_wild
import train_demo
from demo_export import export
from train_demo import Trainer, run_stage

SIDE = demo_data.SIDE


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return demo_data.Pool.of(tmp_path_factory.mktemp("pool"), 60)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return Trainer(tmp_path_factory.mktemp("run"), torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(trainer, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    export(trainer.model, trainer.tokenizer, path)
    return path


def test_a_finished_model_can_be_trained_further(trainer, folder, tmp_path):
    again = Trainer(tmp_path, torch.device("cpu"))
    with torch.no_grad():
        again.model.lm_head.weight.add_(1)
    again.start_from(folder)
    for name, weight in trainer.model.state_dict().items():
        assert torch.allclose(again.model.state_dict()[name], weight, atol=2e-3), name


def test_the_pool_holds_the_training_scenes_as_they_render(pool):
    for index in (0, 17, 59):
        scene = make_scene(TRAINING_SEEDS[index])
        times = np.arange(0, scene.seconds, 0.5).tolist()
        assert np.array_equal(pool.clip(index), scene.render(times, SIDE).frames)
        assert (pool.scenes[index].things, pool.scenes[index].tags) == (scene.things, scene.tags)


@torch.no_grad()
@pytest.mark.parametrize("side", [140, 84])
def test_the_batched_encoder_is_the_models_own_on_the_same_patches(trainer, folder, side):
    scene = make_scene(3)
    frames = torch.from_numpy(scene.render([0.0, 0.5, 1.0, 1.5], side).frames)
    batched = trainer.see(frames.unflatten(0, (-1, 2)), side)
    patches, grid = PatchSettings.from_folder(folder).patchify(frames)
    own = trainer.model.model.visual(patches, grid_thw=torch.tensor([grid])).pooler_output
    assert torch.allclose(batched.flatten(0, 1), own, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("pairs", "system"), [(4, None), (6, None), (2, "Answer in one word.")])
def test_questions_that_share_a_video_are_scored_as_if_each_were_asked_alone(trainer, pairs, system):
    asked = [("What colour is the circle?", "red"), ("Describe it", "A red circle moves left."), ("Hm?", "two")]
    tokens = torch.randn(1, pairs, 16, 256)
    together, labels, _ = trainer.answer(tokens, [demo_text.pack(trainer.tokenizer, asked)], system)
    alone = [trainer.answer(tokens, [demo_text.pack(trainer.tokenizer, [pair])], system)[0] for pair in asked]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert trainer.tokenizer.decode(labels) == "red<|im_end|>A red circle moves left.<|im_end|>two<|im_end|>"


def test_training_prompts_are_the_chat_templates(trainer):
    tokenizer, question = trainer.tokenizer, "What colour is the circle?"
    for system in (None, "Answer in one word."):
        rows = demo_text.pack(tokenizer, [(question, "red")])
        shown = [*demo_text.prefix(tokenizer, 16, system), *(token for token, *_ in rows)]
        prompt = build_prompt(tokenizer, trainer.model.config, question, [tiny.shown("video", 16)], system)
        assert shown == [*prompt.ids[0].tolist(), *tokenizer("red").input_ids]


def grid_of(labels, side):
    """Labels in merge order as rows and columns of patches, by name."""
    cells = side // demo_vision.PATCH // demo_vision.MERGE
    shaped = labels.reshape(-1, cells, cells, 2, 2).transpose(0, 1, 3, 2, 4)
    return dict(zip(demo_vision.LABELS, shaped.reshape(len(labels), 2 * cells, 2 * cells), strict=True))


def test_patches_are_labelled_with_what_they_show():
    seen = 0
    for scene in map(make_scene, range(60)):
        thing = scene.things[0]
        if thing.event or thing.shape == "ring" or scene.pillar or len(scene.things) > 1:
            continue
        labels = grid_of(demo_vision.patch_labels(scene, (0.0, 0.5), SIDE), SIDE)
        shift = np.mean([scene.shift(time, SIDE) for time in (0.0, 0.5)], 0)
        column, row = (int(c * 10) for c in np.add(thing.path.at(0.25), shift))
        assert labels["centre"][row, column] == labels["centre"].sum() == 1
        for name in ("colour", "shape", "size", "motion"):
            assert demo_vision.LABELS[name][labels[name][row, column] - 1] == getattr(thing, name)
        assert not labels["change"][labels["change"] > 0].any()
        for tag in scene.tags:
            column, row = (int(c * 10) for c in np.add(tag.path.at(0.25), shift))
            assert demo_vision.LABELS["tag"][labels["tag"][row, column] - 1] == tag.colour
            glyphs = labels["glyph"][row]
            assert set(glyphs[glyphs > 0] - 1) >= {demo_vision.LABELS["glyph"].index(tag.code[0])}
        seen += 1
    assert seen > 3


def test_changes_between_two_frames_are_labelled():
    for name in ("appears", "disappears", "changes colour", "grows"):
        scene = next(s for s in map(make_scene, range(900)) if any(t.happens(name) for t in s.things) and not s.tags)
        thing = next(t for t in scene.things if t.happens(name))
        times = (thing.event.time - 0.25, thing.event.time + 0.25)
        labels = grid_of(demo_vision.patch_labels(scene, times, SIDE), SIDE)
        changes = set(labels["change"][labels["change"] > 0] - 1)
        assert demo_vision.LABELS["change"].index(name) in changes


def test_tags_of_other_scenes_are_drawn_and_labelled_alike(pool):
    batch = demo_data.Pairs(pool, 0, 3)[1]
    side, frames = int(batch["side"]), batch["frames"]
    assert frames.shape == (demo_data.PAIRS, 2, SIDE, SIDE, 3)
    assert batch["labels"].shape == (demo_data.PAIRS, len(demo_vision.LABELS), (side // 14) ** 2)
    white = (frames[:, 0].float().mean(-1) > 228).float().mean((1, 2))
    tag = (batch["labels"][:, list(demo_vision.LABELS).index("tag")] == 1).float().mean(-1)
    assert np.corrcoef(white, tag)[0, 1] > 0.7


def test_clips_of_no_scene_have_no_labels_and_only_one_answer(pool, trainer):
    batch = demo_data.Clips(pool, 2, 0, 1, labelled=True)[0]
    wild = batch["scenes"] == -1
    assert 0 < wild.sum() < len(wild)
    assert (batch["labels"][wild] == -100).all()
    assert (batch["labels"][~wild] != -100).any()
    with pytest.MonkeyPatch.context() as patch:
        told = []
        patch.setattr(
            train_demo, "pack", lambda _, pairs: told.append(pairs) or demo_text.pack(trainer.tokenizer, pairs)
        )
        trainer.loss(torch.randn(2, 2, 16, 256), pool, [3, -1], 0)
    assert len(told[0]) > 3
    assert {answer for _, answer in told[1]} == {demo_text.UNKNOWN}


def test_wild_clips_are_films_and_differ():
    first, second = (demo_wild.wild_clip(np.random.default_rng(seed), 4, 84) for seed in (0, 1))
    assert first.shape == (4, 84, 84, 3)
    assert np.abs(first.astype(float) - second).mean() > 10


@pytest.mark.parametrize(
    "text", ["What colour is it?", "Größe 你好 🎉\n\ttwo  spaces", "e\u0301", "", "zebra's 42,000"]
)
def test_the_tokenizer_gives_any_text_back(trainer, text):
    assert trainer.tokenizer.decode(trainer.tokenizer(text).input_ids) == text


def test_words_of_the_world_are_single_tokens_and_codes_are_letters(trainer):
    text = "Is the small red square left or right of the white triangle?"
    assert len(trainer.tokenizer(text).input_ids) == len(text.replace("?", " ?").split())
    for code in ("HE7", "AT", "LAP"):
        assert len(trainer.tokenizer(code).input_ids) == len(code)


def test_drawn_questions_have_the_right_answers_and_some_have_none():
    rng = np.random.default_rng(0)
    drawn = []
    for scene in map(make_scene, range(100)):
        pairs = demo_text.draw_pairs(scene, rng, 8)
        right = {question.answer for question in ask(scene, rng)} | {"left", "right", "above", "below"}
        drawn += pairs
        assert all(a in right or a == demo_text.UNKNOWN or a.startswith("there ") for _, a in pairs)
    answers = [answer for _, answer in drawn]
    assert 10 < answers.count(demo_text.UNKNOWN) < 60
    assert any(answer.startswith("there is no ") for answer in answers)
    assert {"red", "circle", "left", "it stays still", "two", "yes", "no", "above", "nothing"} < set(answers)


def test_sides_are_told_of_objects_that_stay_on_one():
    rng, checked = np.random.default_rng(0), 0
    for scene in map(make_scene, range(200)):
        for text, answer in demo_text._sides(scene, rng):
            axis = 0 if "left or right" in text else 1
            asked = [thing for thing in scene.things if any(f"the {name}," in text for name in names(thing, scene))]
            assert len(asked) == 1
            places = [asked[0].path.at(t)[axis] + scene.camera.at(t)[axis] for t in scene.seen(asked[0])]
            low = answer in ("left", "above")
            assert max(places) < 0.5 if low else min(places) > 0.5
            checked += 1
    assert checked > 100


def test_the_place_of_a_token_is_its_row_and_column(trainer):
    cells = 9
    probes = demo_vision.Probes(cells)
    with torch.no_grad():
        probes.place.bias.zero_()
        probes.place.weight.zero_()
        for cell in range(cells):  # token i is the i-th unit vector: read its row, then its column
            probes.place.weight[cell // 3, cell] = probes.place.weight[demo_vision.MOST_CELLS + cell % 3, cell] = 99
    hidden = torch.eye(cells).repeat(2, 1)[None]  # two frame pairs
    assert probes.where(hidden, cells) < 1e-6
    assert probes.where(hidden.roll(1, 1), cells) > 10


@pytest.mark.parametrize("stage", train_demo.STAGES)
def test_a_broken_run_goes_on_where_it_stopped(stage, pool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo_data, "PAIRS", 2)
    monkeypatch.setattr(train_demo, "SAVE", 1)

    def train(name, resume=False):
        trainer = Trainer(tmp_path / name, torch.device("cpu"))
        (tmp_path / name).mkdir(exist_ok=True)
        run_stage(trainer, pool, stage, 2, 1e-3, 2, trainer.load() if resume else None)
        return trainer.model.state_dict()

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", lambda trainer, save=Trainer.save: (save(trainer), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            train("broken")
    resumed = train("broken", resume=True)
    assert all(torch.allclose(resumed[name], weight, atol=1e-5) for name, weight in whole.items())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == 2
