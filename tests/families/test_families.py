"""Every family through the same tests: against its plain model and against itself written naively."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import oracle
import pytest
import tiny_qwen3_5
import torch
import torch.nn.functional as F
from family_cases import CASES, TIMES, Case, ask, naive_run, run
from flop_count import LEFT_OUT, count, count_pass
from probes import BombError, attention, bomb, error, hooks
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import LinearAttentionLayer
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe

from ipcv import IPCV, Dart, FastV, V2Drop
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.compression.pruners.decoder_flops import cache_tokens, decode_flops, prefill_flops
from ipcv.families import FAMILIES, find_encoder, find_language

MODELS: dict[str, Any] = {}


@pytest.fixture(params=CASES)
def family(request) -> tuple[Case, Any]:
    """A family and its tiny model. Tests leave it as they found it."""
    case = CASES[request.param]
    if request.param not in MODELS:
        MODELS[request.param] = case.build()
    return case, MODELS[request.param]


def test_every_family_that_answers_is_tested():
    assert set(CASES) == {name for name, family in FAMILIES.items() if family.language}


# ------------------------------------------------------------------------------------------------- the encoder


@pytest.mark.parametrize("inputs", ["one", "several"])
def test_the_naive_family_is_the_plain_model(family, inputs):
    case, model = family
    grids = getattr(case, inputs)
    naive = case.encoder(model, grids)
    want, got = naive.plain(case.input(grids)), case.encode(model, grids)
    compare(got, want, naive)


def compare(got: Any, want: oracle.Compressed, naive: oracle.Encoder) -> None:
    """What the encoder gives is what the naive one does."""
    last = naive.last(want.tokens)
    assert error(got.last_hidden_state.reshape(last.shape), last) < 1e-5
    assert error(got.pooler_output.view(want.merged.shape), want.merged) < 1e-5
    taps = got.get("deepstack_features") or []
    assert [error(tap, wanted) < 1e-5 for tap, wanted in zip(taps, want.taps, strict=True)] == [True] * len(taps)


@pytest.mark.parametrize("family", [name for name, case in CASES.items() if case.like], indirect=True)
def test_what_is_compared_elsewhere_is_the_same_encoder(family):
    case, model = family
    encoders = (find_encoder(each) for each in (model, CASES[case.like].build()))
    first, second = ([type(part) for part in encoder.patch_embedding.modules()] for encoder in encoders)
    assert first == second


METHODS = [("change", "mean"), ("coverage", "distance"), ("uniform", "distance"), ("random", "mean")]
LAYERS = [(1, 0), (2, 2), (3, 99), (5, 1)]  # the first that computes fewer tokens, and how many are stabilised
# every layer and every method on both kinds of input; all of their combinations: test_compressor.py
COMBINATIONS = [("one", *METHODS[i], *LAYERS[i]) for i in range(4)]
COMBINATIONS += [("several", *METHODS[(i + 1) % 4], *LAYERS[i]) for i in range(4)]


@pytest.mark.parametrize(("inputs", "select", "blend", "layer", "stabilize"), COMBINATIONS)
@pytest.mark.parametrize("family", [name for name, case in CASES.items() if not case.like], indirect=True)
def test_compression_equals_the_method_written_naively(family, inputs, select, blend, layer, stabilize):
    case, model = family
    grids = getattr(case, inputs)
    settings = {
        "keep": 0.3, "layer": layer, "stabilize": stabilize, "neighbors": 3, "select": select, "blend": blend
    }  # fmt: skip
    naive = case.encoder(model, grids)
    want = naive.compressed(case.input(grids), **settings)
    with IPCV(**settings, stabilizer="states", reuse=0.0)(model) as kept:
        got = case.encode(model, grids)
    assert [each.tolist() for each in kept] == [want.lengths]
    compare(got, want, naive)


def test_keeping_everything_is_the_plain_model_bit_for_bit(family):
    case, model = family
    plain = case.encode(model, case.several)
    with IPCV(keep=1, reuse=0)(model):
        got = case.encode(model, case.several)
    assert torch.equal(got.pooler_output, plain.pooler_output)


@pytest.mark.parametrize(
    "settings", [IPCV(keep=0.4), IPCV.paper(keep=0.4, layer=2, stabilize=1)], ids=["ours", "paper"]
)
def test_an_exception_inside_a_pass_leaves_nothing_behind(family, settings):
    case, model = family
    plain, before = case.encode(model, case.several).pooler_output, hooks(model)
    blocks = find_encoder(model).blocks
    with suppress(BombError), settings(model):
        want = case.encode(model, case.several).pooler_output
        with bomb(blocks[4]):
            case.encode(model, case.one)
        assert torch.equal(case.encode(model, case.several).pooler_output, want)
        raise BombError
    assert hooks(model) == before  # transformers leaves some of its own on an InternVL
    assert torch.equal(case.encode(model, case.several).pooler_output, plain)
    assert not torch.equal(want, plain)


def test_eager_attention_equals_sdpa(family):
    case, model = family
    with IPCV(keep=0.4)(model):
        want = case.encode(model, case.several).pooler_output
        with attention(model, "eager"):
            got = case.encode(model, case.several).pooler_output
    assert error(got, want) < 1e-5


@pytest.fixture
def flash() -> Iterator[list[int]]:
    """A flash attention kernel in plain torch, as "flash_by_hand"; how many packed sequences it got per call."""
    calls: list[int] = []

    def forward(_: Any, query: Tensor, key: Tensor, value: Tensor, *__: Any, **named: Any) -> tuple[Tensor, None]:
        scale = named["scaling"]
        if "cu_seq_lens_q" not in named:
            return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2), None
        asking, asked = (named[f"cu_seq_lens_{side}"].diff().tolist() for side in "qk")
        calls.append(len(asking))
        parts = zip(query.split(asking, 2), key.split(asked, 2), value.split(asked, 2), strict=True)
        mixed = [F.scaled_dot_product_attention(*part, scale=scale) for part in parts]
        return torch.cat(mixed, dim=2).transpose(1, 2), None

    AttentionInterface.register("flash_by_hand", forward)
    yield calls
    del AttentionInterface._global_mapping["flash_by_hand"]


@pytest.mark.parametrize(
    "settings", [IPCV(keep=0.4), IPCV.paper(keep=0.2, layer=2, stabilize=1)], ids=["ours", "paper"]
)
def test_flash_attention_equals_sdpa(family, flash, settings):
    case, model = family
    with settings(model):
        want = case.encode(model, case.several).pooler_output
        with attention(model, "flash_by_hand"):
            got = case.encode(model, case.several).pooler_output
    assert max(flash) == len(find_encoder(model).divisions(case.several)[-1])
    assert error(got, want) < 1e-5


@pytest.mark.parametrize(
    "settings", [IPCV(keep=0.4), IPCV.paper(keep=0.2, layer=2, stabilize=1)], ids=["ours", "paper"]
)
def test_torchs_attention_over_packed_rows_equals_that_segment_by_segment(family, request, settings):
    case, model = family
    with settings(model):
        want = case.encode(model, case.several).pooler_output
        calls = request.getfixturevalue("packed")
        got = case.encode(model, case.several).pooler_output
    assert max(len(told["cu_seq_k"]) - 1 for told in calls) == len(find_encoder(model).divisions(case.several)[-1])
    assert error(got, want) < 1e-5


COMPRESSORS = [
    None,
    IPCV(keep=1, reuse=0),  # with reuse: test_reuse_flops.py
    IPCV(keep=0.35, reuse=0),
    IPCV(quality=0.9, layer=1, reuse=0),
    IPCV.paper(keep=0.35, layer=2, stabilize=2),
    IPCV.paper(keep=0.1, layer=1, stabilize=0),
]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_an_encoder_costs_what_torch_counts(family, compressor):
    case, model = family
    grids = case.large
    shape, encoder = find_language(model.config.model_type).vision(model.config), find_encoder(model)
    with attention(model, "eager"):  # the counter knows no fused kernel
        counter, kept = count_pass(model, lambda: case.encode(model, grids), compressor)
    computed = encoder_flops(
        shape, PassWork(frames=encoder.frames(grids), windows=encoder.divisions(grids)[-1], kept=kept), compressor
    )
    assert computed == pytest.approx(counter.get_total_flops(), rel=0.02)  # the counter leaves the choice out


@pytest.mark.parametrize(("layer", "stabilize"), [(1, 0), (2, 2), (5, 1)])
def test_every_restoration_is_counted(family, layer, stabilize):
    """More neighbours change nothing but the mean over them: per stabilised block, per tap and at the end."""
    case, model = family
    shape, encoder = find_language(model.config.model_type).vision(model.config), find_encoder(model)
    computed, counted = [], []
    for neighbors in (1, 9):
        compressor = IPCV.paper(keep=0.4, layer=layer, stabilize=stabilize, neighbors=neighbors)
        with attention(model, "eager"):
            counter, kept = count_pass(model, lambda: case.encode(model, case.large), compressor)
        counted.append(counter.get_total_flops())
        frames, parts = encoder.frames(case.large), encoder.divisions(case.large)[-1]
        computed.append(encoder_flops(shape, PassWork(frames=frames, windows=parts, kept=kept), compressor))
    assert computed[1] - computed[0] == counted[1] - counted[0] > 0


# ------------------------------------------------------------------------------------------- the language model


PRUNERS = [
    None,
    Dart(keep=0.5),
    Dart(keep=0.4, layer=1),
    FastV(keep=0.4, layer=2),
    FastV(keep=0.5, layer=4),
    V2Drop(keep=(0.6, 0.5), layers=(2, 4)),
    V2Drop(),
]


def test_positions_follow_the_rule_of_the_family(family):
    case, model = family
    _, _, positions = ask(case, model)
    want = torch.tensor(case.places(3, case.grid, TIMES[:: case.step], case.words, 5))
    assert torch.equal(positions.reshape(-1, len(want)), want.T)


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_pruning_equals_the_method_written_naively_in_prompt_and_decoding(family, pruner):
    case, model = family
    pruner = case.placed(pruner)
    want, language = naive_run(case, model, pruner, 3)
    before = hooks(model)
    with pruner(model) if pruner else nullcontext():
        got, cache = run(model, *ask(case, model), 3)
    assert held(cache) == [length for layer, length in enumerate(language.lengths()) if layer not in case.linear_layers]
    assert [error(g, w) < 1e-5 for g, w in zip(got, want, strict=True)] == [True] * 4
    assert hooks(model) == before


def held(cache: DynamicCache) -> list[int]:
    """Tokens in each layer that has keys."""
    return [layer.keys.shape[2] for layer in cache.layers if not isinstance(layer, LinearAttentionLayer)]


def test_pruning_equals_the_naive_one_on_a_compressed_encoder(family):
    case, model = family
    with IPCV(keep=0.5, layer=2)(model):
        want, _ = naive_run(case, model, Dart(keep=0.5), 2)
        with Dart(keep=0.5)(model):
            got, _ = run(model, *ask(case, model), 2)
    assert all(error(g, w) < 1e-5 for g, w in zip(got, want, strict=True))


@pytest.fixture
def in_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token's linear attention as matrix products, which the counter counts; transformers' own has none."""
    for module in (modeling_qwen3_5, modeling_qwen3_5_moe):
        monkeypatch.setattr(module, "torch_recurrent_gated_delta_rule", tiny_qwen3_5.one_token)


@pytest.mark.usefixtures("in_products")
@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
def test_prefill_and_decoding_cost_what_torch_counts(family, pruner):
    case, model = family
    pruner = case.placed(pruner)
    shape = find_language(model.config.model_type).decoder(model.config.get_text_config())
    asked = ask(case, model)
    length, visual = asked[0].ids.shape[1], len(asked[1])
    with attention(model, "eager"), pruner(model) if pruner else nullcontext():
        first, all_ = (count(lambda steps=steps: run(model, *asked, steps), also=LEFT_OUT) for steps in (0, 6))
        _, cache = run(model, *asked, 6)
    assert prefill_flops(shape, length, visual, pruner) == pytest.approx(first.get_total_flops(), rel=0.02)
    assert decode_flops(shape, length, visual, 7, pruner) == pytest.approx(
        all_.get_total_flops() - first.get_total_flops(), rel=0.01
    )
    assert cache_tokens(shape, length + 6, visual, pruner) == sum(held(cache))
