"""The cache of encodings: whatever lies in its folder, no question fails of it."""

from ipcv.encodings.cache import EncodingCache


def test_what_is_damaged_and_cannot_be_removed_counts_as_missing(tmp_path):
    key, told = "0" * 32, []
    (tmp_path / f"{key}.safetensors").mkdir()
    assert EncodingCache(tmp_path, warn=told.append).load(key, "clip.mp4") is None
    assert [message.partition(" (")[0] for message in told] == ["a damaged encoding is made again"]
