"""Compared with torch's own counter while tiny random models run.

The counter does not know the CPU's fused attention kernel (it counts 0 for it), so the models attend eagerly: two
batched products per attention, which it counts.
"""

from contextlib import nullcontext

import pytest
import tiny
import torch
from flop_count import ELEMENTWISE, aten, count, count_pass
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, Qwen2VLForConditionalGeneration

from ipcv import IPCV, Dart, FastV, ToMe, V2Drop
from ipcv.architecture.shapes import TextShape, VisionShape
from ipcv.compression.compressors.compressor import PassWork
from ipcv.compression.compressors.encoder_flops import encoder_flops
from ipcv.compression.compressors.ipcv_flops import restore_flops, split_flops
from ipcv.compression.compressors.tensors.features import describe
from ipcv.compression.compressors.tensors.merging import MergeGroups
from ipcv.compression.compressors.tensors.selection import Stream, choose
from ipcv.compression.compressors.tensors.tokens import Split
from ipcv.compression.compressors.tome import merge_flops
from ipcv.compression.pruners.decoder_flops import cache_share, cache_tokens, choice_flops, decode_flops, prefill_flops
from ipcv.compression.pruners.prompt_state import PromptState
from ipcv.families import qwen2_vl

Grids = list[tuple[int, int, int]]  # temporal patches (frames here), rows, columns

IMAGE: Grids = [(1, 16, 16)]
CLIP: Grids = [(4, 16, 16)]
MIXED: Grids = [(1, 8, 12), (3, 16, 16)]

LENGTH, VISUAL = 300, 239
PRUNERS = [Dart(keep=0.3, layer=1), Dart(keep=0.5, layer=4), FastV(keep=0.2, layer=2), FastV(keep=0.5, layer=4)]
PRUNERS += [V2Drop(keep=(0.6, 0.3), layers=(1, 3)), V2Drop()]


@pytest.fixture(scope="module")
def model() -> Qwen2VLForConditionalGeneration:
    model = tiny.qwen2_vl()
    model.set_attn_implementation("eager")
    return model


def patches_per_frame(grid: Grids) -> list[int]:
    return [height * width for frames, height, width in grid for _ in range(frames)]


def pixels(grid: Grids) -> Tensor:
    """Random patches, but the last of several frames is blank, so that kept tokens spread unevenly."""
    frames, values = patches_per_frame(grid), tiny.patches(grid)
    if len(frames) > 1:
        values[-frames[-1] :] = 0
    return values


def count_encoder(model, grid, compressor=None) -> tuple[FlopCounterMode, list[int]]:
    """The counter, and how many tokens each frame kept."""
    return count_pass(model, lambda: model.model.visual(pixels(grid), grid_thw=torch.tensor(grid)), compressor)


class Chat:
    """A prompt of visual tokens between text, run through the language model alone."""

    def __init__(self, model: Qwen2VLForConditionalGeneration, visual: int = VISUAL) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config.text_config)
        before = (LENGTH - visual) // 2
        self.prompt = torch.zeros(1, LENGTH, dtype=torch.long)
        self.prompt[:, before : before + visual] = tiny.VIDEO

    def run(self, ids: Tensor) -> None:
        start = self.cache.get_seq_length(0)
        places = torch.arange(start, start + ids.shape[1]).expand(3, 1, -1)
        self.model(input_ids=ids, position_ids=places, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def prefill(self) -> None:
        self.run(self.prompt)

    def generate(self, tokens: int) -> None:
        for _ in range(tokens - 1):
            self.run(torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize("grid", [IMAGE, CLIP, MIXED])
def test_the_dense_encoder_costs_what_torch_counts(model, grid):
    counter, _ = count_encoder(model, grid)
    shape = qwen2_vl.shape(model.config)
    assert encoder_flops(shape, PassWork(frames=patches_per_frame(grid))) == pytest.approx(
        counter.get_total_flops(), rel=0.01
    )


def test_attention_is_a_large_share_here_so_that_a_wrong_square_would_show(model):
    counter, _ = count_encoder(model, CLIP)
    assert counter.get_flop_counts()["Global"][aten.bmm] > 0.5 * counter.get_total_flops()
    chat = Chat(model)
    counter = count(chat.prefill)
    assert counter.get_flop_counts()["Global"][aten.bmm] > 0.5 * counter.get_total_flops()


@pytest.mark.parametrize(
    ("grid", "keep", "layer", "stabilize"),
    [
        (CLIP, 0.35, 3, 7),
        (CLIP, 0.5, 1, 0),
        (CLIP, 0.9, 5, 1),
        (MIXED, 0.5, 1, 2),
        (MIXED, 0.2, 2, 0),
        (IMAGE, 0.35, 3, 3),
        (IMAGE, 0.05, 1, 1),
        (IMAGE, 1, 3, 7),
    ],
)
def test_the_compressed_encoder_costs_what_torch_counts(model, grid, keep, layer, stabilize):
    for settings in ({}, {"select": "change", "blend": "mean"}, {"select": "uniform", "blend": "mean"}):
        compressor = IPCV(keep=keep, layer=layer, stabilize=stabilize, **settings)
        counter, kept = count_encoder(model, grid, compressor)
        shape = qwen2_vl.shape(model.config)
        computed = encoder_flops(shape, PassWork(frames=patches_per_frame(grid), kept=kept), compressor)
        assert computed == pytest.approx(counter.get_total_flops(), rel=0.015)


@pytest.mark.parametrize("quality", [0.3, 0.9])
def test_what_a_quality_tries_is_counted(model, quality):
    compressor = IPCV(quality=quality, layer=1, reuse=0)
    counter, kept = count_encoder(model, CLIP, compressor)
    shape = qwen2_vl.shape(model.config)
    computed = encoder_flops(shape, PassWork(frames=patches_per_frame(CLIP), kept=kept), compressor)
    assert computed == pytest.approx(counter.get_total_flops(), rel=0.015)


def test_kept_tokens_spread_unevenly_here_so_that_an_assumed_spread_would_show(model):
    compressor = IPCV.paper(keep=0.5, layer=1, stabilize=0)
    _, kept = count_encoder(model, CLIP, compressor)
    shape, frames = qwen2_vl.shape(model.config), patches_per_frame(CLIP)
    even = [frame // 2 for frame in frames]
    assert 0 in kept
    assert encoder_flops(shape, PassWork(frames=frames, kept=even), compressor) < 0.97 * encoder_flops(
        shape, PassWork(frames=frames, kept=kept), compressor
    )


@pytest.mark.parametrize(("layer", "stabilize"), [(1, 0), (2, 3), (3, 7)])
def test_every_restoration_is_counted(model, layer, stabilize):
    """More neighbours change nothing but the mean over them: once per stabilised block and once at the end."""
    shape, frames = qwen2_vl.shape(model.config), patches_per_frame(CLIP)
    computed, counted = [], []
    for neighbors in (1, 9):
        compressor = IPCV.paper(keep=0.4, layer=layer, stabilize=stabilize, neighbors=neighbors)
        counter, kept = count_encoder(model, CLIP, compressor)
        counted.append(counter.get_total_flops())
        computed.append(encoder_flops(shape, PassWork(frames=frames, kept=kept), compressor))
    assert computed[1] - computed[0] == counted[1] - counted[0] > 0


@pytest.mark.parametrize("settings", [{}, {"select": "change", "blend": "mean"}, {"select": "random"}], ids=str)
@pytest.mark.parametrize(("side", "kept", "neighbors"), [(14, 70, 10), (8, 3, 10)])
def test_choosing_and_restoring_cost_about_what_their_operations_add_up_to(settings, side, kept, neighbors):
    compressor, tokens, width = IPCV(neighbors=neighbors, **settings), side**2, 64
    before, after = torch.randn(2, tokens, width)
    places = torch.arange(tokens)

    def run() -> Split:
        features = describe(after, [(1, side, side)], 1) if compressor.compares_features else after
        keep = choose(compressor.select, Stream(before, after, features, places * 0, places), kept)
        likeness = features if compressor.blend == "distance" else after
        return Split.of(after, keep, likeness, neighbors, compressor.blend)

    split = run()
    counter = count(run, also=ELEMENTWISE)
    assert split_flops(width, tokens, kept, compressor) == pytest.approx(counter.get_total_flops(), rel=0.05)
    counter = count(lambda: split.restore(after[:kept]), also=ELEMENTWISE)
    assert restore_flops(width, tokens, kept, compressor) == counter.get_total_flops()


def test_kept_tokens_that_do_not_fit_the_settings_are_refused():
    shape = VisionShape(blocks=6, width=32, heads=2, mlp_width=64, patch_values=96, merge=4, out_width=64)
    with pytest.raises(ValueError, match=r"kept=10 tokens, but keep=0\.5 of 64 keeps 32"):
        encoder_flops(shape, PassWork(frames=[32, 32], kept=[5, 5]), IPCV(keep=0.5))
    with pytest.raises(ValueError, match="past the encoder's last block"):
        encoder_flops(shape, PassWork(frames=[32, 32], kept=[16, 16]), IPCV(keep=0.5, layer=6))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 1])
@pytest.mark.parametrize("grid", [IMAGE, CLIP, MIXED])
def test_merging_costs_what_torch_counts(model, grid, keep):
    counter, _ = count_encoder(model, grid, ToMe(keep=keep))
    shape = qwen2_vl.shape(model.config)
    computed = encoder_flops(shape, PassWork(frames=patches_per_frame(grid)), ToMe(keep=keep))
    assert computed == pytest.approx(counter.get_total_flops(), rel=0.003)


def test_one_merge_costs_what_its_operations_add_up_to():
    shape = VisionShape(blocks=6, width=32, heads=2, mlp_width=64, patch_values=96, merge=4, out_width=64)
    states, keys, table = torch.randn(1, 51, 32), torch.randn(1, 51, 2, 16), torch.randn(51, 16)
    counter = count(lambda: MergeGroups.of(1, 51, (table, table)).merge(states, keys, 13), also=ELEMENTWISE)
    assert merge_flops(shape, 51, 13) == counter.get_total_flops()


@pytest.mark.parametrize("pruner", [None, Dart(keep=1), *PRUNERS], ids=str)
@pytest.mark.parametrize("visual", [VISUAL, 0])
def test_a_prefill_costs_what_torch_counts(model, pruner, visual):
    chat = Chat(model, visual)
    with pruner(model) if pruner else nullcontext():
        counter = count(chat.prefill)
    shape = TextShape.of(model.config.text_config)
    assert prefill_flops(shape, LENGTH, visual, pruner) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_prefill_holds_the_pruners_own_work(model):
    dart, fastv = Dart(keep=0.5, layer=2), FastV(keep=0.486, layer=2)
    assert dart.count(VISUAL) == fastv.count(VISUAL)
    shape = TextShape.of(model.config.text_config)
    prefill = prefill_flops(shape, LENGTH, VISUAL, dart) - prefill_flops(shape, LENGTH, VISUAL, fastv)
    choice = choice_flops(shape, LENGTH, VISUAL, dart) - choice_flops(shape, LENGTH, VISUAL, fastv)
    assert prefill == choice > 0


@pytest.mark.parametrize("pruner", [None, *PRUNERS], ids=str)
@pytest.mark.parametrize("new_tokens", [1, 2, 12])
def test_generating_costs_what_torch_counts(model, pruner, new_tokens):
    chat = Chat(model)
    with pruner(model) if pruner else nullcontext():
        chat.prefill()
        counter = count(lambda: chat.generate(new_tokens))
    computed = decode_flops(TextShape.of(model.config.text_config), LENGTH, VISUAL, new_tokens, pruner)
    assert computed == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("pruner", [Dart(), FastV(), V2Drop(keep=(0.5,), layers=(3,))], ids=str)
@pytest.mark.parametrize("visual", [80, 3])
def test_a_pruners_own_work_is_counted_operation_by_operation(pruner, visual):
    shape = TextShape(layers=6, width=64, query_width=64, key_width=32, heads=4, mlp_width=96, vocabulary=320)
    places = torch.arange(100)
    prompt = PromptState(
        visual=places[:visual],
        text=places[visual:],
        before=torch.randn(100, 64),
        states=torch.randn(100, 64),
        keys=torch.randn(2, 100, 16),
        query=torch.randn(4, 16),
    )
    counter = count(lambda: pruner.choose(prompt), also=ELEMENTWISE)
    assert choice_flops(shape, 100, visual, pruner) == counter.get_total_flops()


@pytest.mark.parametrize("pruner", [None, Dart(keep=1), *PRUNERS], ids=str)
def test_the_cache_holds_as_many_tokens_as_computed(model, pruner):
    chat, shape = Chat(model), TextShape.of(model.config.text_config)
    with pruner(model) if pruner else nullcontext():
        count(chat.prefill)
        held = [layer.keys.shape[2] for layer in chat.cache.layers]
        assert cache_tokens(shape, LENGTH, VISUAL, pruner) == sum(held)
        assert cache_share(shape, LENGTH, VISUAL, pruner) == sum(held) / (len(held) * LENGTH)
        count(lambda: chat.generate(6))
        held = [layer.keys.shape[2] for layer in chat.cache.layers]
    assert cache_tokens(shape, LENGTH + 5, VISUAL, pruner) == sum(held)
