"""Segments of packed rows, and how kept tokens fall into them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcv.compression.compressors.tensors.packing import PackedSegments, divide

CPU = torch.device("cpu")


def test_padding_comes_off_again():
    segments = PackedSegments.of([2, 0, 3], CPU)
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    padded = segments.pad(rows)
    assert padded.shape == (3, 3, 4)
    assert torch.equal(segments.unpad(padded), rows)
    assert torch.equal(padded[0, 2], torch.zeros(4))
    assert segments.mask.flatten(1).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_segments_of_equal_length_are_not_padded():
    segments = PackedSegments.of([2, 2], CPU)
    assert segments.mask is None
    assert segments.pad(rows := torch.randn(4, 3)).data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("lengths", [[3], [2, 2], [1, 0, 4], [0, 0, 2]])
def test_segments_say_what_their_lengths_are(lengths):
    segments = PackedSegments.of(lengths, CPU)
    assert segments.bounds.dtype == torch.int32
    assert segments.bounds.diff().tolist() == lengths
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

    divisions = divide([PackedSegments.of(sizes, CPU), PackedSegments.of(windows, CPU)], torch.tensor(keep))

    for division, lengths, owner in zip(divisions, (sizes, windows), (of_frame, of_window), strict=True):
        counts = [[owner[token] for token in keep].count(segment) for segment in range(len(lengths))]
        assert list(division.whole.lengths) == lengths
        assert list(division.kept.lengths) == division.kept.bounds.diff().tolist() == counts
        filled = [count for count in counts if count]
        assert list(division.alone.lengths) == division.alone.bounds.diff().tolist() == filled
        assert division.alone.bounds.dtype == torch.int32
