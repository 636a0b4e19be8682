"""Segments of packed rows, and how kept tokens fall into them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcv.compression.compressors.tensors.packing import PackedSegments, alike, divide
from ipcv.compression.compressors.tensors.tokens import mask_of

CPU = torch.device("cpu")


def test_segments_with_as_many_queries_and_keys_are_grouped_and_those_without_queries_left_out():
    assert alike([2, 0, 3, 2, 2], [5, 5, 5, 6, 5]) == [[0, 4], [2], [3]]
    assert alike([0, 0], [5, 0]) == []
    assert alike([2] * 3, [4] * 3) == [[0, 1, 2]]


def test_segments_that_follow_each_other_are_stacked_without_a_copy():
    segments = PackedSegments.of([1, 2, 0, 2, 3, 2], CPU)
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    joined = segments.stacked(rows, [1, 3])
    assert torch.equal(joined, rows[1:5].view(2, 2, 4))
    assert joined.data_ptr() == rows[1:].data_ptr()
    assert torch.equal(segments.stacked(rows, [1, 5]), torch.stack([rows[1:3], rows[8:10]]))


@pytest.mark.parametrize("lengths", [[3], [2, 2], [1, 0, 4], [0, 0, 2]])
def test_segments_say_what_their_lengths_are(lengths):
    segments = PackedSegments.of(lengths, CPU)
    assert segments.bounds.dtype == torch.int32
    assert segments.bounds.diff().tolist() == lengths
    assert [*segments.starts, sum(lengths)] == segments.bounds.tolist()
    assert (segments.count, segments.rows, segments.longest) == (len(lengths), sum(lengths), max(lengths))
    assert segments.owner(torch.arange(sum(lengths))).tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]


@given(frames=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4), data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_kept_tokens_are_counted_in_frames_and_in_windows(frames, data):
    windows = [size for frame in frames for size in frame]
    sizes = [sum(frame) for frame in frames]
    keep = sorted(data.draw(st.sets(st.integers(0, sum(sizes) - 1), min_size=1)))
    of_frame = [i for i, size in enumerate(sizes) for _ in range(size)]
    of_window = [i for i, size in enumerate(windows) for _ in range(size)]

    divisions = divide(
        [PackedSegments.of(sizes, CPU), PackedSegments.of(windows, CPU)], mask_of(torch.tensor(keep), sum(sizes))
    )

    for division, lengths, owner in zip(divisions, (sizes, windows), (of_frame, of_window), strict=True):
        counts = [[owner[token] for token in keep].count(segment) for segment in range(len(lengths))]
        assert list(division.whole.lengths) == lengths
        assert list(division.kept.lengths) == division.kept.bounds.diff().tolist() == counts
