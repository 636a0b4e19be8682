"""Attention of some tokens over others, segment by segment, against a loop over segments."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ipcv.attention import Segments, attend


def bounds(*lengths: int) -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()


@pytest.mark.parametrize(
    ("queries", "keys"),
    [((3, 3), (5, 5)), ((3, 0, 4), (5, 5, 5)), ((1, 2), (7, 2)), ((4,), (9,)), ((0, 0, 2), (1, 4, 3))],
)
def test_each_segment_of_queries_sees_its_own_segment_of_keys_only(queries, keys):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(n, 2, 4, generator=generator) for n in (sum(queries), sum(keys), sum(keys)))
    module = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    got = attend(
        module,
        (query, key, value),
        Segments.of(bounds(*queries), sum(queries)),
        Segments.of(bounds(*keys), sum(keys)),
        scale=0.5,
    )
    rows = []
    for q, k, v in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        shares = (torch.einsum("qhc,khc->hqk", q, k) * 0.5).softmax(-1)
        rows.append(torch.einsum("hqk,khc->qhc", shares, v).flatten(1))
    torch.testing.assert_close(got, torch.cat(rows))


def test_padding_comes_off_again():
    segments = Segments.of(bounds(2, 0, 3), 5)
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    padded = segments.pad(rows)
    assert padded.shape == (3, 3, 4)
    assert torch.equal(segments.unpad(padded), rows)
    assert torch.equal(padded[0, 2], torch.zeros(4))
    assert segments.mask().flatten(1).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_segments_of_equal_length_are_not_padded():
    segments = Segments.of(bounds(2, 2), 4)
    assert segments.mask() is None
    assert segments.pad(rows := torch.randn(4, 3)).data_ptr() == rows.data_ptr()
