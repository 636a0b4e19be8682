"""`ipcv cache`: the encodings that there are, on stdout; how many, on stderr."""

import pytest

from ipcv import Options, Sampling
from ipcv.encodings.cache import EncodingCache
from ipcv_cli.main import main


@pytest.fixture
def folder(demo, clip, tmp_path):
    """A cache with one encoding."""
    list(demo.stream(clip, "?", Options(sampling=Sampling(max_frames=2)), cache=EncodingCache(tmp_path / "kept")))
    return tmp_path / "kept"


def test_alone_it_lists_what_is_there(folder, clip, capsys):
    (entry,) = EncodingCache(folder).entries()
    for words in (["cache"], ["cache", "ls"]):
        assert main([*words, "--cache", str(folder)]) == 0
        out, err = capsys.readouterr()
        assert out.split("\t")[1:] == [str(entry.size), f"{clip}\n"]
        assert err == f"ipcv: cache: 1 encoding, {entry.size:,} bytes, in {folder}\n"


def test_an_empty_cache_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPCV_CACHE", str(tmp_path / "none"))
    assert main(["cache"]) == 0
    assert capsys.readouterr() == ("", f"ipcv: cache: 0 encodings, 0 bytes, in {tmp_path / 'none'}\n")
    assert main(["cache", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_is_removed_is_counted(folder, capsys):
    size = EncodingCache(folder).entries()[0].size
    assert main(["cache", "size", "--cache", str(folder)]) == 0
    assert main(["cache", "rm", "--cache", str(folder)]) == 0
    assert capsys.readouterr() == (f"{size}\n", f"ipcv: removed: 1 encoding, {size:,} bytes, from {folder}\n")
    assert EncodingCache(folder).entries() == []
