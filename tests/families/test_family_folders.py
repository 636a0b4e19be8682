"""Every family from a folder, as users have them: loaded, asked, compressed, quantised, captioned."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from family_folders import CASES, Case, save
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import ipcv
from ipcv import EVS, IPCV, Dart, Encoded, FastV, Options, Reused, TimedFrames, ToMe, V2Drop
from ipcv.answer import Final, StageDone, Token
from ipcv.encodings.cache import EncodingCache
from ipcv.errors import ModelError
from ipcv.families import FAMILIES, find_language
from ipcv.inference.frame_encoder import FrameEncoder
from ipcv.inference.generate import Chooser, pieces, prefill
from ipcv.inference.generate_batch import decode_together
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.memory_estimate import Sizes
from ipcv.media.clip import clip_from_frames
from ipcv.models.source import read_config
from ipcv_cli.main import app

QUESTION = "What colour is the circle?"
PLAIN = Options(compressor=None, pruner=None, max_new_tokens=8, frame_batch=4)


@pytest.fixture(scope="module", params=CASES)
def folder(request, tmp_path_factory) -> Path:
    """A family's folder."""
    path = tmp_path_factory.mktemp(request.param)
    save(CASES[request.param], path)
    return path


@pytest.fixture(scope="module")
def model(folder) -> ipcv.Model:
    return ipcv.load(str(folder))


@pytest.fixture
def case(model) -> Case:
    return CASES[model.facts.family]


@pytest.fixture(scope="module")
def video() -> TimedFrames:
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    return TimedFrames(frames, [1.5, 2.0, 2.5, 3.0, 3.5, 4.0])


def test_every_family_that_answers_is_tested():
    assert set(CASES) == {name for name, family in FAMILIES.items() if family.language}


@torch.no_grad()
def encoded(model: ipcv.Model, *videos: TimedFrames, options: Options = PLAIN) -> tuple[Pipeline, list[Encoded]]:
    return Pipeline(model.loaded, options), [model.encode(video, options) for video in videos]


def transformers_inputs(model: ipcv.Model, case: Case, videos: list[TimedFrames], ids: Tensor) -> dict[str, Any]:
    """What transformers' `generate` takes for whole videos."""
    settings, network = model.loaded.patches, model.loaded.network
    every, grids = [], []
    for video in videos:
        with clip_from_frames(video.frames, video.times, resize=settings.resize, multiple=1) as clip:
            (frames,) = clip
        patches, grid = settings.patchify(torch.from_numpy(frames))
        every.append(patches)
        grids.append(grid)
    if case.pixels:
        types = {case.types: (ids == network.config.image_token_id).long()} if case.types else {}
        return {"input_ids": ids, **case.pixels(every), **types}
    token = getattr(network.config, f"{find_language(model.facts.family).visual_kind}_token_id")
    types = torch.where(ids == token, 2, 0)
    return {
        "input_ids": ids,
        "mm_token_type_ids": types,
        "pixel_values_videos": torch.cat(every),
        "video_grid_thw": torch.tensor(grids),
        **case.more([list(video.times) for video in videos]),
    }


@pytest.mark.parametrize("count", [1, 2], ids=["one video", "two videos"])
def test_an_answer_is_that_of_transformers_own_generation(model, case, video, count):
    videos = [video, TimedFrames(video.frames[::-1].copy(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])][:count]
    pipeline, parts = encoded(model, *videos)
    ids = pipeline.prompt(parts, QUESTION).ids
    inputs = transformers_inputs(model, case, videos, ids)
    want = model.loaded.network.generate(**inputs, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
    answer = model.ask(videos, QUESTION, PLAIN)
    text = "".join(pieces(model.loaded.tokenizer, iter(token for token in want.tolist() if token != 2)))
    assert answer.answer == text != ""
    visual = sum(each.frames.visual_tokens for each in answer.videos)
    assert visual == int(pipeline.prompt(parts, QUESTION).types.bool().sum())


PRUNERS = [Dart(keep=0.5), FastV(keep=0.4, layer=2), V2Drop(keep=(0.5, 0.5), layers=(1, 3))]


@pytest.mark.parametrize("pruner", PRUNERS, ids=["dart", "fastv", "v2drop"])
@pytest.mark.parametrize("compressor", [IPCV(keep=0.4), IPCV.paper(keep=0.4, stabilize=1)], ids=["ours", "paper"])
def test_a_compressed_answer_is_streamed_and_says_what_it_saved(model, video, compressor, pruner):
    options = replace(PLAIN, compressor=compressor, pruner=pruner, reducer=EVS(keep=0.7), baseline=True, repeats=1)
    events = list(model.stream(video, QUESTION, options))
    assert isinstance(events[-1], Final)
    answer = events[-1].answer
    assert "".join(event.text for event in events if isinstance(event, Token)) == answer.answer
    assert [e.stage.name for e in events if isinstance(e, StageDone)][-2:] == ["prefill", "generate"]
    stages = {stage.name: stage for stage in answer.stages}
    assert stages["encode"].tokens_computed < stages["encode"].tokens_in
    assert 0 < answer.savings.encode_flops < 1
    assert 0 < answer.savings.prefill_flops < 1
    assert 0 < answer.savings.cache_share < 1
    assert -1 < answer.savings.baseline.similarity < 1


def test_of_a_still_video_the_prompt_has_the_first_picture_and_what_changed(model, video):
    pictures = np.repeat(video.frames[:1], 6, axis=0)
    still = TimedFrames(pictures, video.times[:6])
    options = replace(PLAIN, compressor=IPCV(keep=1, reuse=0.03))
    whole, left = (model.ask(still, QUESTION, replace(options, reducer=each)) for each in (None, Reused()))
    taken = len(pictures) // model.loaded.patches.temporal_patch_size
    assert left.frames.visual_tokens * taken == whole.frames.visual_tokens
    assert left.finish_reason == whole.finish_reason
    moving = model.ask(video, QUESTION, replace(options, reducer=Reused()))
    assert moving.frames.visual_tokens > left.frames.visual_tokens


def test_settings_can_be_fitted_to_the_memory_that_is_free(folder, video):
    found = ipcv.fit_to_device(str(folder), PLAIN)
    assert found.why.startswith("fitted to ")
    answer = ipcv.load(str(folder), quant=found.quant).ask(video, QUESTION, found.options)
    assert answer.finish_reason == "length"


@torch.no_grad()
@pytest.mark.parametrize("pruner", [None, *PRUNERS], ids=["plain", "dart", "fastv", "v2drop"])
def test_a_prompt_in_chunks_is_the_prompt_in_one_piece(model, video, pruner):
    pipeline, (part,) = encoded(model, video)
    prompt, network = pipeline.prompt([part], QUESTION), model.loaded.network
    places = find_language(model.facts.family).positions(network, prompt.ids, prompt.types, [part.span])
    decodings = []
    for chunk in (10**6, 17):
        with pruner(network) if pruner else nullcontext():
            decodings.append(prefill(network, prompt, part.visual, places, chunk=chunk))
    whole, parts = decodings
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-4, rtol=1e-4)
    shapes = [[each.keys.shape for each in one.cache.layers if hasattr(each, "keys")] for one in (parts, whole)]
    assert shapes[0] == shapes[1]


def test_a_budget_of_visual_tokens_is_met(model, video):
    whole = model.ask(video, QUESTION, PLAIN).frames.visual_tokens
    same, less = (model.ask(video, QUESTION, replace(PLAIN, max_visual_tokens=whole - left)) for left in (0, 1))
    assert (same.frames.visual_tokens, same.videos[0].budget.lowered) == (whole, ())
    assert whole // 2 <= less.frames.visual_tokens == less.videos[0].budget.lowered[-1].visual_tokens < whole


def test_where_memory_runs_out_frames_are_encoded_in_smaller_batches(model, video, monkeypatch):
    whole = FrameEncoder.encode_batch

    def encode_batch(self: FrameEncoder, frames: np.ndarray) -> Any:
        if len(frames) > 2:
            raise RuntimeError("CUDA out of memory")
        return whole(self, frames)

    options = replace(PLAIN, compressor=IPCV(keep=0.5))
    want = model.ask(video, QUESTION, replace(options, frame_batch=2))
    monkeypatch.setattr(FrameEncoder, "encode_batch", encode_batch)
    got = model.ask(video, QUESTION, options)
    assert got.answer == want.answer
    assert got.videos == want.videos
    assert any("memory ran out with 4 frames at a time" in warning for warning in got.warnings)


def test_an_image_is_seen_or_refused_before_it_is_encoded(model, tmp_path):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    if find_language(model.facts.family).image_placeholder:
        assert model.ask(tmp_path / "red.png", QUESTION, PLAIN).frames.visual_tokens
    else:
        with pytest.raises(ValueError, match=f"models of family '{model.facts.family}' are asked about videos only"):
            model.ask(tmp_path / "red.png", QUESTION, PLAIN)


def test_memory_is_planned_with_the_weights_that_there_are(model, folder):
    sizes, network = Sizes.of(folder, read_config(folder)), model.loaded.network
    kept = network.state_dict()
    buffers = sum(buffer.numel() for name, buffer in network.named_buffers() if name in kept)
    assert sizes.plain + sizes.linear == network.num_parameters() + buffers
    linears = [each for each in network.get_decoder().layers.modules() if isinstance(each, nn.Linear)]
    assert sizes.linear == sum(each.weight.numel() for each in linears)


def test_what_keeps_everything_changes_nothing(model, video):
    everything = replace(PLAIN, compressor=IPCV(keep=1, reuse=0), pruner=Dart(keep=1))
    answer = model.ask(video, QUESTION, everything)
    assert answer.answer == model.ask(video, QUESTION, PLAIN).answer
    assert answer.savings.total_flops == answer.savings.cache_share == 1


def test_the_encoder_in_batches_equals_the_encoder_in_one_go(model, video):
    whole, parts = (model.encode(video, replace(PLAIN, frame_batch=size)).visual for size in (6, 2))
    torch.testing.assert_close(parts.tokens, whole.tokens, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.deepstack, whole.deepstack, atol=1e-4, rtol=1e-4)


def test_an_encoding_comes_back_from_the_cache_as_it_was(model, video, tmp_path):
    cache, options = EncodingCache(tmp_path / "cache"), replace(PLAIN, compressor=IPCV(keep=0.5))
    before = model.encode(video, options)
    cache.store("0" * 32, before)
    again = cache.load("0" * 32, "memory")
    assert torch.equal(again.visual.tokens, before.visual.tokens)
    assert torch.equal(again.visual.deepstack, before.visual.deepstack)
    assert model.ask(again, QUESTION, options).answer == model.ask(video, QUESTION, options).answer


@torch.no_grad()
def test_answers_written_together_are_those_written_alone(model, video):
    options = replace(PLAIN, pruner=Dart(keep=0.5))
    questions = [QUESTION, "How many objects are there in this video?", "Hm?"]
    decodings = []
    for question in questions:
        pipeline, parts = encoded(model, video, options=options)
        with pipeline.pruned():
            decodings.append(pipeline.prefill(parts, question, pipeline.clock()).decoding)
    network = model.loaded.network
    decode_together(network, decodings, [Chooser(network, 0.0, 0) for _ in questions], 8)
    tokenizer = model.loaded.tokenizer
    for question, decoding in zip(questions, decodings, strict=True):
        text = "".join(pieces(tokenizer, iter(decoding.tokens)))
        assert text == model.ask(video, question, options).answer


def test_four_bits_are_for_the_language_models_linears_only(folder, video):
    model = ipcv.load(str(folder), quant="4bit")
    case = CASES[model.facts.family]
    linears = {name: module for name, module in model.loaded.network.named_modules() if isinstance(module, nn.Linear)}
    quantised = {name for name, module in linears.items() if type(module) is Linear4bit}
    language = {name for name in linears if name.startswith(case.text)}
    assert quantised == {name for name in language if not name.endswith(case.whole)}
    assert all(any(name.endswith(end) for name in language) for end in case.whole)
    assert any(name.startswith(case.vision) for name in linears)
    assert len(model.warnings) == ("moe" in model.facts.family)
    assert all("experts' and are not quantised" in warning for warning in model.warnings)
    assert model.ask(video, QUESTION, replace(PLAIN, compressor=IPCV(keep=0.5))).answer


def test_the_command_line_answers_with_it(folder, clip):
    command = ["ask", str(clip), QUESTION, "--model", str(folder), "--max-new-tokens", "6", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["model"]["family"] == json.loads((folder / "config.json").read_text())["model_type"]
    assert answer["savings"]["encode_flops"] < 1


def test_tome_works_or_is_refused_before_anything_is_read(model, video):
    options = replace(PLAIN, compressor=ToMe(keep=0.5))
    if model.facts.family == "qwen2_vl":
        assert model.ask(video, QUESTION, options).savings.encode_flops < 1
    else:
        with pytest.raises(ModelError, match=f"ToMe is not supported in model family '{model.facts.family}'"):
            model.ask("no-such-file.mp4", QUESTION, options)


def test_an_encoding_has_the_tokens_that_the_cache_expects(model, video):
    """The cache removes entries of another size: a family that it counts otherwise would never be cached."""
    encoding = model.encode(video, PLAIN)
    tokens = encoding.grid[0] * model.loaded.patches.tokens(*encoding.size)
    assert encoding.visual.tokens.shape == (tokens, model.loaded.width)
    assert len(encoding.times) % encoding.grid[0] == 0
