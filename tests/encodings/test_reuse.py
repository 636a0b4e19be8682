"""An answer about a video whose encoding was found: what was not done is not reported as work, nor as saved."""

from ipcv import IPCV, Options
from ipcv.encodings.cache import EncodingCache

COLOUR = "What colour is the circle?"


def test_an_encoding_that_is_reused_is_no_work(demo, clip, tmp_path):
    cache = EncodingCache(tmp_path)
    (*_, first), (*_, second) = (demo.stream(clip, COLOUR, cache=cache) for _ in range(2))
    before, after = ({stage.name: stage for stage in each.answer.stages} for each in (first, second))
    for name in ("read", "preprocess", "encode"):
        assert after[name].tokens_in == before[name].tokens_in
        assert (after[name].tokens_computed, after[name].seconds) == (0, 0)
    assert (after["encode"].flops, after["encode"].flops_dense) == (0, before["encode"].flops_dense)
    assert second.answer.savings.encode_flops == 0 < first.answer.savings.encode_flops
    assert second.answer.savings.total_flops < first.answer.savings.total_flops
    assert [each.answer.videos[0].reused for each in (first, second)] == [False, True]
    assert second.answer.answer == first.answer.answer


def test_what_was_expected_of_a_quality_is_known_from_the_cache(demo, clip, tmp_path):
    cache, options = EncodingCache(tmp_path), Options(compressor=IPCV(quality=0.9))
    (*_, first), (*_, second) = (demo.stream(clip, COLOUR, options, cache=cache) for _ in range(2))
    assert second.answer.videos[0].reused
    assert second.answer.quality == first.answer.quality
