"""The cache of encodings: whatever lies in its folder, no question fails of it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import ipcv
from ipcv.architecture.visual import Visual
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.stored import TENSORS

OPTIONS = ipcv.Options(sampling=ipcv.Sampling(max_frames=4), max_new_tokens=8)
QUESTION = "What colour is the circle?"


def test_what_is_damaged_and_cannot_be_removed_counts_as_missing(tmp_path):
    key, told = "0" * 32, []
    (tmp_path / f"{key}.safetensors").mkdir()
    assert EncodingCache(tmp_path, warn=told.append).load(key, "clip.mp4") is None
    assert [message.partition(" (")[0] for message in told] == ["a damaged encoding is made again"]


def test_an_entry_under_the_name_of_another_is_damaged(encoded, tmp_path):
    told = []
    cache = EncodingCache(tmp_path, warn=told.append)
    cache.store("0" * 32, encoded)
    (tmp_path / f"{'0' * 32}.safetensors").rename(tmp_path / f"{'1' * 32}.safetensors")
    assert cache.load("1" * 32, "clip.mp4") is None
    assert told == ["a damaged encoding is made again (its checksum is another one)"]


@pytest.fixture(scope="module")
def encoded(demo, clip):
    return demo.encode(clip, OPTIONS)


def asked(demo, clip, cache):
    return list(demo.stream(clip, QUESTION, OPTIONS, cache=cache))[-1].answer.answer


def ways(encoded):
    """Encodings that hang together badly, by what is wrong."""
    tokens, deepstack = encoded.visual.tokens, encoded.visual.deepstack
    few = torch.arange(5)
    return {
        "too few tokens": replace(encoded, visual=encoded.visual[few]),
        "narrow tokens": replace(encoded, visual=Visual(tokens[:, :3], deepstack[..., :3])),
        "flat tokens": replace(encoded, visual=Visual(tokens.flatten(), deepstack)),
        "no tokens": replace(encoded, visual=encoded.visual[few[:0]]),
        "whole numbers": replace(encoded, visual=Visual(tokens.long(), deepstack.long())),
        "other grid": replace(encoded, grid=(encoded.grid[0] + 1, *encoded.grid[1:])),
        "no grid": replace(encoded, grid=(0, 0, 0)),
        "too few times": replace(encoded, times=encoded.times[:1]),
        "times that are none": replace(encoded, times=(float("nan"),) * len(encoded.times)),
        "marks of other tokens": replace(encoded, reused_tokens=encoded.reused_tokens[1:]),
        "marks that are numbers": replace(encoded, reused_tokens=encoded.reused_tokens.float()),
        "more computed than there are": replace(encoded, computed=tuple((10**6,) for _ in encoded.passes)),
        "more kept than computed": replace(encoded, computed=tuple((0,) for _ in encoded.passes)),
        "other size": replace(encoded, size=(encoded.size[0] * 2, encoded.size[1])),
        "text for a size": replace(encoded, size=("x", "y")),
        "unknown kind": replace(encoded, kind="sound"),
    }


@pytest.mark.parametrize(
    "way",
    [
        *("too few tokens", "narrow tokens", "flat tokens", "no tokens", "whole numbers", "other grid", "no grid"),
        *("too few times", "times that are none", "other size", "text for a size", "unknown kind"),
        *("marks of other tokens", "marks that are numbers", "more computed than there are", "more kept than computed"),
    ],
)
def test_an_entry_of_another_shape_is_made_again_with_a_warning(way, demo, clip, encoded, tmp_path):
    told = []
    cache = EncodingCache(tmp_path, warn=told.append)
    right = asked(demo, clip, cache)
    (entry,) = cache.entries()
    cache.store(entry.path.stem, ways(encoded)[way])
    assert asked(demo, clip, cache) == right
    assert [message.partition(" (")[0] for message in told] == ["a damaged encoding is made again"]
    assert asked(demo, clip, cache) == right
    assert len(told) == 1


@pytest.mark.parametrize("spoil", ["deep", "hash", "version", "field", "none", "long"])
def test_metadata_of_every_kind_are_told_as_damage(spoil, demo, clip, encoded, tmp_path):
    told = []
    cache = EncodingCache(tmp_path, warn=told.append)
    cache.store("0" * 32, encoded)
    (entry,) = cache.entries()
    with safe_open(entry.path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in TENSORS}
    changes = {
        "deep": {"about": "[" * 100_000 + "]" * 100_000},
        "hash": {"about": metadata["about"].replace('"frame_batch": 16', '"frame_batch": 17')},
        "version": {"version": "1"},
        "field": {"about": json.dumps(json.loads(metadata["about"]) | {"more": 1})},
        "none": dict.fromkeys(metadata, ""),
        "long": {"about": "1" * 10_000},
    }
    save_file(tensors, entry.path, metadata | changes[spoil])
    assert [each.video for each in cache.entries()] == [str(clip) if spoil == "hash" else ""]
    assert cache.load("0" * 32, "clip.mp4") is None
    assert len(told) == 1
    assert cache.entries() == []
