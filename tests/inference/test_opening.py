"""The files of a question: each is read once, whoever found it, and a wrong one is known before a model is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from probes import hungry

from ipcv import Options
from ipcv.encodings.cache import EncodingCache
from ipcv.media.sources import find
from ipcv.readers.single import FileReader
from ipcv_cli import startup
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"


@pytest.fixture
def files_read(monkeypatch):
    """The names of the files that a reader finds, one for each time."""
    names, read = [], FileReader.find
    monkeypatch.setattr(FileReader, "find", lambda self, path: names.append(Path(path).name) or read(self, path))
    return names


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (140, 140), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_the_command_reads_each_file_once(clip, clips, picture, files_read, capsys):
    asked = [clip, clips / "1.mp4", picture]
    for count in (1, 2, 3):
        files_read.clear()
        assert main(["ask", *map(str, asked[:count]), COLOUR, "--model", "demo"]) == 0
        assert files_read == [path.name for path in asked[:count]]


def test_the_command_reads_a_cached_video_once(clip, files_read, tmp_path, capsys):
    answers = []
    for _ in range(2):
        files_read.clear()
        assert main(["ask", str(clip), COLOUR, "--model", "demo", "--cache", str(tmp_path / "cache")]) == 0
        assert files_read == [clip.name]
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert len(EncodingCache(tmp_path / "cache").entries()) == 1


def test_a_file_is_found_once_however_often_memory_runs_out(demo, clip, files_read):
    with hungry(demo.loaded.network.model.visual.blocks[0], lambda patches: 46 if patches > 60 else 1):
        demo.ask(clip, COLOUR)
    assert files_read == [clip.name]


def test_a_found_file_is_asked_about_as_its_path_is(demo, clip, picture, tmp_path, files_read):
    by_path = demo.ask([clip, picture], COLOUR)
    found = [find(clip), find(picture)]
    files_read.clear()
    by_find = demo.ask(found, COLOUR)
    assert not files_read
    assert (by_find.answer, by_find.videos, by_find.warnings) == (by_path.answer, by_path.videos, by_path.warnings)
    cache = EncodingCache(tmp_path / "cache")
    (*_, first), (*_, second) = (demo.stream(each, COLOUR, cache=cache) for each in (clip, found[0]))
    assert second.answer.videos == tuple(replace(each, reused=True) for each in first.answer.videos)
    assert len(cache.entries()) == 1


def test_several_videos_are_found_in_the_cache_within_their_parts_of_the_budget(demo, clips, tmp_path, files_read):
    cache, asked = EncodingCache(tmp_path / "cache"), [clips / "0.mp4", clips / "1.mp4"]
    for options in (Options(), Options(max_visual_tokens=60)):
        before = len(cache.entries())
        (*_, first), (*_, second) = (demo.stream(asked, COLOUR, options, cache=cache) for _ in range(2))
        assert second.answer.videos == tuple(replace(each, reused=True) for each in first.answer.videos)
        assert second.answer.answer == first.answer.answer
        assert len(cache.entries()) == before + 2


def test_a_wrong_file_is_reported_before_a_model_is_loaded(clip, capsys, monkeypatch):
    monkeypatch.setattr(startup, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    assert main(["ask", str(clip), "no-such-file.mp4", COLOUR, "--model", "demo"]) == 4
    assert "no-such-file.mp4" in capsys.readouterr().err
