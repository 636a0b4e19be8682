"""Layers that attend linearly: nothing to choose tokens by, a state in place of keys, whatever becomes of a prompt."""

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import family_cases
import family_folders
import numpy as np
import pytest
import tiny
import tiny_qwen3_5
import torch
import torch.nn.functional as F
from flop_count import LEFT_OUT, count
from PIL import Image
from probes import attention, error
from torch import Tensor
from transformers import AddedToken, AutoTokenizer, DynamicCache, Qwen3_5MoeTextConfig, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5
from typer.testing import CliRunner

import ipcv
from ipcv import Dart, FastV, Options, TimedFrames, V2Drop
from ipcv.architecture.prefill import in_chunks
from ipcv.architecture.shapes import linear_layers
from ipcv.compression.pruners.decoder_flops import cache_bytes, cache_share, decode_flops, prefill_flops
from ipcv.families import find_language
from ipcv.inference.generate import Chooser, Decoding, pieces, prefill
from ipcv.inference.generate_batch import decode_together
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.memory_estimate import Sizes
from ipcv.media.sources import choose_frames, find
from ipcv.models.prompt import build_prompt
from ipcv_cli.main import app

QUESTION = "What colour is the circle?"
PRUNERS = [None, Dart(), FastV(keep=0.4, layer=2), V2Drop(keep=(0.6, 0.5, 0.5), layers=(1, 2, 4))]
FRAMES = (4, ("video", 1, 6, 8), 3, ("video", 1, 6, 8), 2, ("image", 1, 4, 6), 6)
LONG = (4, *(("video", 1, 8, 8), 5) * 9)  # 193 tokens: more than linear attention takes at a time


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_qwen3_5.qwen3_5()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen3_5")
    family_folders.save(family_folders.CASES["qwen3_5"], path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> ipcv.Model:
    return ipcv.load(str(folder))


# ------------------------------------------------------------------------------------------ at which layers


@pytest.mark.parametrize("text", [Qwen3_5TextConfig(), Qwen3_5MoeTextConfig()], ids=["dense", "experts"])
@pytest.mark.parametrize("pruner", [Dart(), FastV()], ids=["dart", "fastv"])
def test_at_real_depths_the_default_is_the_first_layer_behind_one_with_keys(text, pruner):
    depth, linear = text.num_hidden_layers, linear_layers(text)
    assert pruner.steps(depth, linear) == (4,)
    settled, warning = pruner.settled(depth, linear)
    assert (settled.layer, settled.keep) == (4, pruner.keep)
    assert warning == (
        f"{type(pruner).__name__} drops visual tokens from the language model's layer 4 on, not 3: layer 2 of this "
        "model attends linearly and has no keys to choose them by"
    )
    assert type(pruner)(layer=8).settled(depth, linear) == (type(pruner)(layer=8), None)
    assert pruner.settled(depth, ()) == (type(pruner)(layer=3), None)


@pytest.mark.parametrize("method", [Dart, FastV])
def test_a_layer_behind_one_without_keys_is_refused_naming_those_that_would_work(method):
    linear = linear_layers(Qwen3_5TextConfig())
    with pytest.raises(ValueError, match=r"layer=3 follows layer 2 .* use one of 4, 8, 12, 16, 20, 24, 28$"):
        method(layer=3).steps(32, linear)
    with pytest.raises(ValueError, match=r"layer=2 follows .* use V2Drop, which needs none"):
        method(layer=2).steps(5, range(5))
    with pytest.raises(ValueError, match=r"layer=32 is past the language model's last layer \(31,"):
        method(layer=32).steps(32, linear)


def test_v2drop_needs_no_keys():
    assert V2Drop().steps(32, linear_layers(Qwen3_5TextConfig())) == V2Drop().steps(32) == (3, 18, 25)


def test_the_command_line_says_where_it_prunes_and_refuses_what_makes_no_sense(folder, clip):
    command = ["ask", str(clip), QUESTION, "--model", str(folder), "--max-new-tokens", "2", "--fps", "1"]
    command += ["--llm-pruner", "dart"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["settings"]["pruner"] == {"keep": 0.5, "layer": 4, "method": "dart"}
    (warning,) = [each for each in answer["warnings"] if "attends linearly" in each]
    assert warning in " ".join(done.stderr.split())
    named = CliRunner().invoke(app, [*command, "--json", "--llm-layer", "4"])
    assert json.loads(named.stdout) | {"stages": []} | {"warnings": answer["warnings"]} == answer | {"stages": []}
    assert "attends linearly" not in named.stderr
    refused = CliRunner().invoke(app, [*command, "--llm-layer", "1"])
    assert refused.exit_code == 2
    assert "Dart layer=1 follows layer 0 of the language model" in refused.stderr
    assert refused.stderr.rstrip().endswith("use one of 2, 4")


# ------------------------------------------------------------------------------------------ prompt and cache


def run(model: Any, parts: Any, pruner: Any, *, chunk: int = 10**6, steps: int = 3) -> tuple[list[Tensor], Any]:
    """Logits of a prompt and of some steps behind it, and the cache."""
    inputs = tiny.prompt(*parts)
    positions = places(model, inputs)
    cache = DynamicCache(config=model.config.text_config)
    with pruner(model) if pruner else nullcontext():
        with in_chunks(model, chunk):
            out = model(**inputs, position_ids=positions, past_key_values=cache, use_cache=True)
        logits = [out.logits[0, -1]]
        for step in range(steps):
            token, place = logits[-1].argmax().view(1, 1), (positions.max() + 1 + step).expand(3, 1, 1)
            logits.append(model(input_ids=token, position_ids=place, past_key_values=cache).logits[0, -1])
    return logits, cache


def places(model: Any, inputs: Any) -> Tensor:
    grids = {name: grid for name, grid in inputs.items() if name.endswith("grid_thw")}
    return model.model.get_rope_index(inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], **grids)[0]


def tensors(cache: DynamicCache) -> list[Tensor]:
    """All that a cache holds, layer by layer."""
    return [
        each
        for layer in cache.layers
        for each in ((layer.keys, layer.values) if hasattr(layer, "keys") else states(layer))
    ]


def states(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.conv_states[0], layer.recurrent_states[0]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 64, 192])
def test_chunks_equal_one_piece_and_leave_the_same_keys_and_states(model, pruner, chunk, kernel):
    parts = FRAMES if chunk < 64 else LONG
    with attention(model, kernel):
        want, whole = run(model, parts, pruner)
        got, cut = run(model, parts, pruner, chunk=chunk)
    assert all(error(mine, theirs) < 1e-5 for mine, theirs in zip(got, want, strict=True))
    assert all(error(mine, theirs) < 1e-5 for mine, theirs in zip(tensors(cut), tensors(whole), strict=True))


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_states_know_of_the_kept_tokens_only(model, pruner):
    """They are those of the method written naively, behind the prompt and three more tokens."""
    case = family_cases.CASES["qwen3_5"]
    _, language = family_cases.naive_run(case, model, pruner, 3)
    with pruner(model) if pruner else nullcontext():
        _, cache = family_cases.run(model, *family_cases.ask(case, model), 3)
    assert sorted(language.states) == list(case.linear_layers)
    for layer, want in language.states.items():
        before, heads = states(cache.layers[layer])
        assert error(before[0].T, torch.stack(want.before)) < 1e-5
        assert error(heads[0], want.heads) < 1e-5


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_generate_gives_what_a_loop_over_the_model_gives(model, pruner, kernel):
    inputs, padded = (tiny.prompt(*FRAMES) for _ in range(2))
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        padded[name] = F.pad(padded[name], (3, 0))
    with attention(model, kernel):
        want, _ = run(model, FRAMES, pruner, steps=7)
        with pruner(model) if pruner else nullcontext():
            for prompt in (inputs, padded):
                got = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, -8:]
                assert got.tolist() == [int(logits.argmax()) for logits in want]


@torch.no_grad()
def test_written_together_the_numbers_are_those_written_alone(model):
    found: list[list[Tensor]] = []
    decodings: list[Decoding] = []
    case = family_cases.CASES["qwen3_5"]
    for words in (2, 9, 5):
        asked = family_cases.ask(case, model, before=3, after=words)
        with V2Drop(keep=(0.5, 0.5), layers=(1, 3))(model) if words == 9 else Dart()(model):
            found.append(family_cases.run(model, *asked, 5)[0])
            decodings.append(prefill(model, *asked))

    class Watching(Chooser):
        def __call__(self, seen: Tensor, logits: Tensor) -> Tensor:
            self.logits = [*getattr(self, "logits", []), logits[0]]
            return super().__call__(seen, logits)

    held = [[each.clone() for each in tensors(decoding.cache)] for decoding in decodings]
    choosers = [Watching(model, 0.0, 0) for _ in decodings]
    decode_together(model, decodings, choosers, 6)
    for chooser, want in zip(choosers, found, strict=True):
        assert [error(mine, theirs) < 1e-5 for mine, theirs in zip(chooser.logits, want, strict=True)] == [True] * 6
    for decoding, before in zip(decodings, held, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(tensors(decoding.cache), before, strict=True))


# ------------------------------------------------------------------------------------------ what it costs


@pytest.mark.parametrize("build", [tiny_qwen3_5.qwen3_5, tiny_qwen3_5.qwen3_5_moe])
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_those_of_the_cache(build, pruner, dtype):
    model = build().to(dtype)
    _, cache = run(model, FRAMES, pruner)
    shape = find_language(model.config.model_type).decoder(model.config.text_config)
    inputs = tiny.prompt(*FRAMES)["mm_token_type_ids"]
    length, visual = inputs.numel() + 3, int((inputs > 0).sum())
    bytes_ = sum(each.nbytes for each in tensors(cache))
    assert cache_bytes(shape, length, visual, pruner, dtype.itemsize) == bytes_


def test_a_state_is_held_whatever_is_dropped():
    """So that the share of the cache is larger than that of the keys."""
    shape = find_language("qwen3_5").decoder(Qwen3_5TextConfig())
    keys = 1 - 7 / 8 * 900 / 1000 / 2
    share = cache_share(shape, 1000, 900, Dart(), width=2)
    assert keys < share < 1
    assert cache_share(shape, 100_000, 90_000, Dart(), width=2) == pytest.approx(keys, abs=0.01)


@torch.no_grad()
def test_one_token_in_products_is_transformers_own_rule():
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=random)

    query, key, value = draw(1, 2, 8), draw(1, 2, 8), draw(1, 4, 16)
    settings = {"g": -draw(1, 4).abs(), "beta": draw(1, 4).sigmoid(), "initial_state": draw(4, 8, 16)}
    more = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
    each = (heads.repeat_interleave(2, dim=2) for heads in (query, key))  # transformers 5.20 takes as many as of values
    want = modeling_qwen3_5.torch_recurrent_gated_delta_rule(*each, value, **settings, **more)
    got = tiny_qwen3_5.one_token(query, key, value, **settings)
    assert all(error(mine, theirs) < 1e-5 for mine, theirs in zip(got, want, strict=True))


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_a_prompt_of_several_blocks_costs_what_torch_counts(model, pruner):
    inputs = tiny.prompt(*LONG)
    shape = find_language("qwen3_5").decoder(model.config.text_config)
    length, visual = inputs["input_ids"].shape[1], int((inputs["mm_token_type_ids"] > 0).sum())
    positions = places(model, inputs)
    pixels = {name: inputs.pop(name) for name in ("pixel_values_videos", "video_grid_thw")}
    encoded = {"video": model.model.get_video_features(*pixels.values())}

    def once() -> None:
        with pruner(model) if pruner else nullcontext():
            model(**inputs, position_ids=positions, mm_encoder_outputs=encoded, use_cache=True, logits_to_keep=1)

    with attention(model, "eager"):
        counter = count(once, also=LEFT_OUT)
    assert prefill_flops(shape, length, visual, pruner) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_decoding_costs_as_much_in_a_linear_layer_however_long_the_prompt_is():
    shape = find_language("qwen3_5").decoder(Qwen3_5TextConfig(layer_types=["linear_attention"] * 32))
    assert decode_flops(shape, 100, 90, 9) == decode_flops(shape, 100_000, 90, 9) > 0


def test_memory_is_planned_for_the_layers_that_have_keys(folder, loaded):
    sizes = replace(Sizes.of(folder, loaded.loaded.network.config), picture=0)  # no text beside the visual tokens
    assert len(sizes.text.linear_layers) == 3
    more = sizes.prompting(4, 8000) - sizes.prompting(4, 4000)
    assert more < 4000 * 4 * (2 * 2 * sizes.text.key_width + 12 * sizes.text.width) + 2048 * 4000 * 8


# ------------------------------------------------------------------------------------------ prompts


@torch.no_grad()
def test_videos_and_images_in_one_prompt_are_as_in_transformers_own_pass(loaded, tmp_path):
    """Each video with its own times, pixels and places."""
    noise = np.random.default_rng(0).integers(0, 256, (13, 48, 64, 3), np.uint8)
    Image.fromarray(noise[12]).save(tmp_path / "picture.png")
    first, second = (TimedFrames(noise[6 * i : 6 * i + 6], [90.0 * i + j / 2 for j in range(6)]) for i in range(2))
    options = Options(compressor=None, pruner=None)
    pipeline, parts, pixels = Pipeline(loaded.loaded, options), [], {"image": [], "video": []}
    for each in (first, tmp_path / "picture.png", second):
        parts.append(loaded.encode(each, options))
        source = each if isinstance(each, TimedFrames) else find(each)
        chosen = choose_frames(source, options.sampling, options.frame_batch, 2)
        for frames in chosen.read(pipeline.patches.resize, len(chosen.times)):
            part = loaded.loaded.patches.patchify(torch.from_numpy(frames))
            pixels["video" if isinstance(each, TimedFrames) else "image"].append(part)
    prompt = pipeline.prompt(parts, QUESTION)
    text = loaded.loaded.tokenizer.decode(prompt.ids[0])
    assert re.findall(r"<([\d.]+) seconds>", text) == ["0.2", "1.2", "2.2", "90.2", "91.2", "92.2"]
    want = loaded.loaded.network(
        input_ids=prompt.ids,
        mm_token_type_ids=prompt.types,
        pixel_values=torch.cat([part for part, _ in pixels["image"]]),
        image_grid_thw=torch.tensor([grid for _, grid in pixels["image"]]),
        pixel_values_videos=torch.cat([part for part, _ in pixels["video"]]),
        video_grid_thw=torch.tensor([grid for _, grid in pixels["video"]]),
        logits_to_keep=1,
    ).logits[:, -1]
    assert error(pipeline.prefill(parts, QUESTION, pipeline.clock()).decoding.logits, want) < 1e-4


def test_a_template_may_begin_the_answer_with_a_thought_which_is_streamed_as_it_comes(demo, tmp_path):
    demo.loaded.tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([AddedToken(f"<{end}think>", special=False) for end in ("", "/")])
    tokenizer.chat_template += "{{ '</think>' if enable_thinking is false else '<think>\n' }}"
    config = SimpleNamespace(model_type="qwen3_5", video_token_id=6)
    prompt = build_prompt(tokenizer, config, QUESTION, [tiny.shown("video", 4)])
    assert tokenizer.decode(prompt.ids[0]).endswith("<think>\n")
    ids = tokenizer("blue</think>red", add_special_tokens=False).input_ids
    assert list(pieces(tokenizer, iter(ids)))[-2:] == ["</think>", "red"]
