"""Attention of computed tokens over whole slices, one slice after the other, against rows that are all spread out."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from probes import looped

from ipcv.compression.compressors.reuse import Carried, Reuse
from ipcv.compression.compressors.tensors.attention import attend
from ipcv.compression.compressors.tensors.packing import PackedSegments, divide

MODULE = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
ENCODER = SimpleNamespace(protected=0, merge=1)
TOKENS = 6  # of a slice, in windows of 2 and 4


@pytest.mark.parametrize("sizes", [[TOKENS] * 5, [2, 4] * 5], ids=["frames", "windows"])
@pytest.mark.parametrize("videos", ["one", "one that goes on", "two"])
def test_queries_meet_the_keys_and_values_that_were_last_computed_at_each_place(sizes, videos):
    dice = torch.Generator().manual_seed(0)
    is_computed = torch.rand(5, 1, TOKENS, generator=dice) < 0.4
    is_computed[3] = False
    if videos != "one that goes on":
        is_computed[0] = True
    if videos == "two":
        is_computed[2] = True
    computed = is_computed.flatten().nonzero()[:, 0]
    held = {name: torch.randn(TOKENS, 2, 4, generator=dice) for name in ("keys 7", "values 7")}
    reuse = Reuse(ENCODER, None, is_video=videos != "two")
    reuse.before = Carried((1, TOKENS), None, dict(held)) if videos == "one that goes on" else None
    reuse.after = None if videos == "two" else Carried((1, TOKENS), None)
    reuse.computed_tokens(is_computed.split([2, 3]) if videos == "two" else [is_computed], None)
    wholes = [PackedSegments.of(each, torch.device("cpu")) for each in ([TOKENS] * 5, sizes)]
    divisions = divide(wholes, is_computed.flatten())
    reuse.place(computed, divisions[0])
    key, value = (torch.randn(len(computed), 2, 4, generator=dice) for _ in range(2))
    present = is_computed.flatten() & (torch.rand(5 * TOKENS, generator=dice) < 0.6)
    query = torch.randn(int(present.sum()), 2, 4, generator=dice)
    division = divide(wholes, present)[1]

    got = reuse.attend("7", (query, key, value), division, partial(attend, MODULE, scale=0.5))

    latest, every = dict(enumerate(zip(*held.values(), strict=True))), []
    rows = iter(zip(key, value, strict=True))
    for slice_ in is_computed.flatten(1).tolist():
        latest |= {place: next(rows) for place, own in enumerate(slice_) if own}
        every += [latest[place] for place in range(TOKENS)]
    keys, values = (torch.stack(each) for each in zip(*every, strict=True))
    want = looped((query, keys, values), division.kept.lengths, sizes, 0.5)
    torch.testing.assert_close(got, want.flatten(1))
    if reuse.after is not None:
        assert torch.equal(reuse.after.rows["keys 7"], keys[-TOKENS:])
        assert torch.equal(reuse.after.rows["values 7"], values[-TOKENS:])
    if reuse.before is not None:
        assert all(torch.equal(reuse.before.rows[name], rows) for name, rows in held.items())
