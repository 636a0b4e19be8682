"""What cache keys and the keys of caption lines are made of."""

from dataclasses import dataclass

import pytest

from ipcv.batch.plan import RECORD_VERSION
from ipcv.compression import registry
from ipcv.encodings import fingerprint, stored
from ipcv.media.segments import Segments
from ipcv.options import Options


def test_keys_are_made_of_names_that_no_renaming_changes():
    assert fingerprint.plain(Options()) == {
        "kind": "options",
        "sampling": {"kind": "sampling", "fps": 2.0, "max_frames": 64, "start": None, "end": None},
        "max_pixels": None,
        "max_visual_tokens": None,
        "frame_batch": 16,
        "compressor": {
            "kind": "ipcv",
            "keep": 0.5,
            "quality": None,
            "layer": 2,
            "stabilize": "all",
            "neighbors": 4,
            "select": "coverage",
            "blend": "distance",
            "stabilizer": "neighbors",
            "reuse": 0.1,
            "cut": 0.2,
            "refresh": 8,
        },
        "reducer": None,
        "pruner": None,
        "system": None,
        "max_new_tokens": 512,
        "temperature": 0.0,
        "seed": 0,
        "baseline": False,
        "repeats": None,
    }
    assert fingerprint.plain(Segments(seconds=10)) == {"kind": "segments", "seconds": 10}
    assert fingerprint.digest(fingerprint.plain(Options())) == "81cb982e383e9091eb1d1dbde22cdff1"


def test_whoever_changes_the_keys_raises_the_versions():
    assert (RECORD_VERSION, stored.VERSION) == (4, 6)


def test_every_method_is_in_keys_by_its_name():
    kinds = {name: fingerprint.plain(registry.maker(name)())["kind"] for name in registry.METHODS}
    assert kinds == {name: name for name in registry.METHODS} | {"coverage": "ipcv", "paper": "ipcv"}


def test_settings_without_a_kind_make_no_key():
    @dataclass
    class Nameless:
        field: int = 0

    with pytest.raises(TypeError, match="Nameless is no setting: give it a `kind`"):
        fingerprint.plain(Nameless())
