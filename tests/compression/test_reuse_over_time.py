"""Reuse over time, against the plain model and against the method written naively, for every kind of encoder."""

import copy
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import oracle_reuse
import pytest
import torch
from moving_patches import (
    SLICES,
    THRESHOLD,
    WITH_CLS,
    Family,
    changing,
    counts,
    passes,
    resized,
    still,
)
from probes import BombError, bomb, error, hooks
from torch import Tensor

from ipcv import IPCV
from ipcv.families import find_encoder

TINY = 1e-9
RULE: dict[str, Any] = {"reuse": THRESHOLD, "cut": 0.6, "refresh": 99}
LATER: dict[str, Any] = {
    "layer": 2,
    "neighbors": 3,
    "select": "coverage",
    "blend": "distance",
    "stabilizer": "neighbors",
}


def tokens(output: Any) -> Tensor:
    """Visual tokens `[n, d]`, in the order of their slices."""
    return output.pooler_output.flatten(0, -2)


def compressor(**settings: Any) -> IPCV:
    return IPCV(**RULE | LATER | {"keep": 1} | settings)


# ------------------------------------------------------------------------------------------ the method itself

RUNS = [
    pytest.param({"keep": 1}, [6], id="all computed ones kept"),
    pytest.param({"keep": 1, "refresh": 2}, [4, 2], id="refreshed"),
    pytest.param({"keep": 1, "cut": 0.35}, [2, 4], id="whole where small changes add up"),
    pytest.param({"keep": 0.4, "stabilizer": "neighbors"}, [3, 3], id="by neighbours"),
    pytest.param({"keep": 0.4, "stabilizer": "states", "select": "uniform"}, [2, 1, 3], id="by states"),
]


@pytest.mark.parametrize(("settings", "sizes"), RUNS)
def test_reuse_equals_the_method_written_naively(family, settings, sizes):
    clip, memory = changing(family), None
    told = oracle_reuse.Settings(**RULE | LATER | settings, pixel_range=family.range)
    outputs, kept = passes(family, clip, compressor(**settings), sizes, video=True)
    for index, (got, part) in enumerate(zip(outputs, clip.split(sizes), strict=True)):
        naive = family.naive(part)
        want = oracle_reuse.run(naive, family.pixels(part), told, [0] * len(part), memory)
        memory = want.memory
        assert kept.masks[index].tolist() == want.masks
        assert kept.computed[index].tolist() == want.computed
        if settings["keep"] < 1:
            assert kept[index].tolist() == want.lengths
        family.compare(got, want, naive)


def test_the_clip_has_something_to_do_for_every_rule(family):
    _, kept = passes(family, changing(family), compressor(), [6], video=True)
    (masks,), (rows, columns) = kept.masks, family.size
    assert masks[0].all()
    assert masks[4].all()  # another scene
    upper, lower = masks[:4, : rows // 2].flatten(1).sum(1), masks[:4, rows // 2 :].flatten(1).sum(1)
    assert upper[1] == upper[2] == upper[3] == rows // 2 * columns // 2
    assert lower[1] == 0
    assert 0 < lower[2] <= columns  # next to new ones
    assert not masks[2, rows // 2 + 1 :].any()
    assert masks[:, -1, -1].tolist() == [True, False, False, True, True, False]
    assert masks[5].sum() == 1


@pytest.mark.parametrize("settings", [{"keep": 1}, {"keep": 0.4, "select": "uniform"}], ids=str)
def test_videos_are_never_mixed(family, settings):
    """Two videos in one pass: the second begins like the first ends, and is computed whole."""
    half = changing(family)[:2]
    clip = torch.cat([half, half.flip(0) + 0.005 * family.range * torch.rand(half.shape)])
    grids = family.grids(4) if family.is_framed else family.grids(2) * 2
    told = oracle_reuse.Settings(**RULE | LATER | settings, pixel_range=family.range)
    videos = list(range(4)) if family.sees_each_slice_alone else [0, 0, 1, 1]
    naive = family.naive(clip, grids)
    want = oracle_reuse.run(naive, family.pixels(clip), told, videos)
    with compressor(**settings)(family.model) as kept:
        got = family.encode(clip, grids)
    family.compare(got, want, naive)
    assert kept.computed[0].tolist() == want.computed
    assert [row for mask in kept.masks for row in mask.tolist()] == want.masks
    whole = [all(map(all, mask)) for mask in want.masks]
    assert whole == ([True] * 4 if family.sees_each_slice_alone else [True, False] * 2)


# ----------------------------------------------------------------------------------- what must not change at all


@pytest.mark.parametrize("cut", [0.6, 1.0], ids=["slice by slice", "patch by patch"])
def test_where_everything_changes_the_output_is_the_plain_models(family, cut):
    clip = family.patches(3)
    plain = family.encode(clip)
    (got,), kept = passes(family, clip, compressor(reuse=TINY, cut=cut), [3], video=True)
    assert kept.masks[0].all()
    assert error(got.last_hidden_state, plain.last_hidden_state) < 1e-5
    assert error(got.pooler_output, plain.pooler_output) < 1e-5
    for tap, wanted in zip(got.get("deepstack_features") or [], plain.get("deepstack_features") or [], strict=True):
        assert error(tap, wanted) < 1e-5


@pytest.mark.parametrize("sizes", [[4], [1, 2, 1]], ids=str)
def test_a_still_clip_is_computed_once_and_equals_the_plain_models(family, sizes):
    clip = still(family, 4)
    plain = family.encode(clip)
    outputs, kept = passes(family, clip, compressor(), sizes, video=True)
    got = torch.cat([tokens(each) for each in outputs])
    assert error(got, tokens(plain)) < 1e-5
    each = got.unflatten(0, (4, -1))
    assert error(each, each[:1].expand_as(each)) < 1e-6
    assert [mask.flatten(1).all(1).tolist() for mask in kept.masks] == [
        [index == 0 and part == 0 for index in range(size)] for part, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 2, 2], [5, 1]], ids=str)
def test_frames_in_batches_are_all_frames_in_one_pass(family, sizes):
    """Neither the output nor how much is computed depends on the size of a batch."""
    clip = changing(family)
    (whole,), once = passes(family, clip, compressor(), [SLICES], video=True)
    parts, kept = passes(family, clip, compressor(), sizes, video=True)
    assert error(torch.cat([tokens(each) for each in parts]), tokens(whole)) < 1e-5
    assert torch.equal(torch.cat(list(kept.masks)), once.masks[0])
    assert torch.equal(torch.cat(list(kept.computed)), once.computed[0])
    for index in range(len(whole.get("deepstack_features") or [])):
        tap = torch.cat([each.deepstack_features[index] for each in parts])
        assert error(tap, whole.deepstack_features[index]) < 1e-5


def test_passes_that_are_not_said_to_be_of_one_video_begin_anew(family):
    clip = changing(family)[:1]
    plain = family.encode(clip).pooler_output
    outputs, _ = passes(family, torch.cat([clip, clip]), compressor(), [1, 1])
    assert all(error(each.pooler_output, plain) < 1e-5 for each in outputs)


def test_images_are_computed_whole(family):
    """Several in one pass, of which the second repeats the first."""
    clip = still(family, 2)
    grids = family.grids(2) if family.is_framed else family.grids(1) * 2
    plain = family.encode(clip, grids).pooler_output
    with compressor()(family.model) as kept:
        got = family.encode(clip, grids).pooler_output
    assert error(got, plain) < 1e-5
    assert all(each.sum() == len(family.naive(clip, grids).places) for each in kept.computed)


def test_slices_of_another_size_begin_anew():
    family = Family.of("qwen2_vl")
    clip = changing(family)[:2]
    other = resized(family, (6, 4))
    with compressor()(family.model, video=True) as kept:
        family.encode(clip)
        first = other.encode(clip)
        again = other.encode(clip)
    with compressor()(family.model, video=True):
        assert torch.equal(other.encode(clip).pooler_output, first.pooler_output)
        assert torch.equal(other.encode(clip).pooler_output, again.pooler_output)
    assert [mask.shape[1:] for mask in kept.masks] == [(4, 6), (6, 4), (6, 4)]
    assert [bool(mask[0].all()) for mask in kept.masks] == [True, True, False]


@pytest.mark.parametrize("keep", [1, 0.4])
def test_nothing_is_computed_where_nothing_changes(family, keep):
    clip = still(family, 4)
    (first, second), kept = passes(family, clip, compressor(keep=keep), [2, 2], video=True)
    head = 2 * (family.name in WITH_CLS)
    assert not kept.masks[1].any()
    assert int(kept.computed[1].sum()) == head
    if keep < 1:
        assert int(kept[1].sum()) == head
    assert error(second.pooler_output, first.pooler_output) < (1e-5 if keep == 1 else 1)
    assert second.pooler_output.isfinite().all()


@pytest.mark.parametrize("keep", [0.5, 0.01])
def test_the_share_is_of_the_computed_patches_and_a_sixteenth_of_all_at_least(family, keep):
    clip = changing(family)
    _, kept = passes(family, clip, compressor(keep=keep), [1, 1, 1, 1, 1, 1], video=True)
    head = int(family.name in WITH_CLS)
    for index, mask in enumerate(kept.masks):
        least = max(1, int(min(1 / 16, keep / 4) * mask.numel()))
        want = max(int(keep * int(mask.sum())), min(int(mask.sum()), least))
        assert int(kept[index].sum()) - head == want
    assert kept.masks[5].sum() == 1


# ------------------------------------------------------------------------------------------------ state and errors


@pytest.mark.parametrize("place", ["first", "layer", "last"])
def test_a_failed_pass_leaves_the_state_of_the_one_before(family, place):
    clip, blocks = changing(family), find_encoder(family.model).blocks
    block = {"first": blocks[0], "layer": blocks[2], "last": blocks[-1]}[place]
    wanted, want_kept = passes(family, clip, compressor(keep=0.4), [2, 2, 2], video=True)
    before = hooks(family.model)
    got = []
    with compressor(keep=0.4)(family.model, video=True) as kept:
        for part in clip.split(2):
            if got:
                with bomb(block):
                    family.encode(part)
                kept.forget(len(got))
            got.append(family.encode(part))
    assert hooks(family.model) == before
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.pooler_output, other.pooler_output)
    for one, other in ((kept, want_kept), (kept.computed, want_kept.computed), (kept.masks, want_kept.masks)):
        assert counts(one) == counts(other)


@pytest.mark.parametrize("done", [0, 1])
def test_a_pass_that_fails_behind_the_blocks_can_be_forgotten(done):
    """As where memory runs out in the merger: the encoder has gone on by then, and so the next pass begins anew."""
    family = Family.of("qwen2_vl")
    clip = changing(family)[1:]
    parts = [clip[: 2 * done], clip[2 * done :]]
    sizes = [[2] * done, [2, 2, 1][done:]]
    wanted, want_kept = [], []
    for part, size in zip(parts, sizes, strict=True):
        outputs, kept = passes(family, part, compressor(keep=0.4), size, video=True) if size else ([], None)
        wanted += outputs
        want_kept += kept.masks if kept is not None else []
    got = []
    with compressor(keep=0.4)(family.model, video=True) as kept:
        for number, part in enumerate(clip.split(2)):
            if number == done:
                for _ in range(2):
                    with bomb(family.model.model.visual.merger):
                        family.encode(clip[-2:])
                    kept.forget(done)
            got.append(family.encode(part))
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.pooler_output, other.pooler_output)
    assert counts(kept.masks) == counts(want_kept)


def test_hooks_are_gone_after_an_exception_and_the_next_with_begins_anew(family):
    clip, before = changing(family), hooks(family.model)
    plain = family.encode(clip).pooler_output
    with suppress(BombError), compressor()(family.model, video=True):
        assert hooks(family.model) > before
        family.encode(clip)
        raise BombError
    assert hooks(family.model) == before
    assert torch.equal(family.encode(clip).pooler_output, plain)
    with compressor()(family.model, video=True) as kept:
        family.encode(clip[-1:])
    assert kept.masks[0].all()


@pytest.fixture
def fresh() -> Iterator[None]:
    """The collector knows no object that was there before: to look through all others is quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("failure", [None, BombError()])
def test_the_state_is_freed_at_the_end(failure):
    """After the `with` nothing holds keys, values or outputs, although the list that it gave is held."""
    family = Family.of("qwen2_vl")
    clip = changing(family)
    before = held()
    try:
        with compressor(keep=0.4)(family.model, video=True) as kept:
            family.encode(clip)
            holder = weakref.ref(hook_of(find_encoder(family.model).blocks[0]))
            assert held() > before + 6 * 24 * 32 * 2 * 4  # a slice's keys and values of every block, at least
            if failure:
                raise failure
    except BombError:
        assert failure
    gc.collect()
    assert holder() is None
    assert held() <= before + sum(each.nbytes for each in [*kept, *kept.computed, *kept.masks])


def hook_of(block: Any) -> Any:
    """The object whose methods are the hooks on a block."""
    hook = next(iter([*block._forward_pre_hooks.values(), *block._forward_hooks.values()]))
    return getattr(hook, "__self__", None) or hook.func.__self__


def held() -> int:
    """Bytes of all new tensors that are alive, of what they are views of if that is more."""
    gc.collect()
    storages = [each.untyped_storage() for each in gc.get_objects() if type(each) is Tensor]
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


@pytest.mark.usefixtures("fresh")
def test_the_state_does_not_grow():
    """Passes of any number of slices leave as much as passes of one."""
    family = Family.of("qwen2_vl")
    clip, sizes = changing(family), []
    with compressor(keep=0.4)(family.model, video=True):
        for slices in (2, 1, 1, 3, 1, 4):
            family.encode(clip[:slices])
            sizes.append(held())
    assert max(sizes[1:]) - min(sizes[1:]) < 24 * 32 * 4  # less than the keys of one slice in one block


@pytest.mark.parametrize("stabilizer", ["states", "neighbors"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.08), (torch.float16, 0.02)])
def test_half_precision_stays_near_float32(family, dtype, tolerance, stabilizer):
    clip, half = changing(family), copy.deepcopy(family.model).to(dtype)
    settings = compressor(keep=0.5, stabilizer=stabilizer, select="uniform")
    (want, more), kept = passes(family, clip, settings, [3, 3], video=True)
    (got, more_got), half_kept = passes(replace(family, model=half), clip, settings, [3, 3], video=True)
    assert got.pooler_output.dtype == dtype
    assert counts(half_kept.masks) == counts(kept.masks)
    assert counts(half_kept) == counts(kept)
    assert error(got.pooler_output, want.pooler_output) < tolerance
    assert error(more_got.pooler_output, more.pooler_output) < tolerance


# ---------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reuse": -0.1}, "reuse=-0.1"),
        ({"reuse": 1.5}, "reuse=1.5"),
        ({"reuse": float("nan")}, "reuse=nan"),
        ({"reuse": 0.1, "stabilize": 2}, "reuse.*stabilize"),
        ({"stabilizer": "keys"}, "stabilizer='keys'.*states.*neighbors"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IPCV(**settings)


def test_the_paper_computes_everything():
    assert (IPCV.paper().reuse, IPCV.paper().stabilizer) == (0, "states")
