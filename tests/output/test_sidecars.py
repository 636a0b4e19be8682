"""Side-cars: where they go, what is in them, and that they never overwrite one another or somebody else's file."""

import csv
import html
import json
import re
import stat

import pysubs2
import pytest

from ipcv.batch.items import Item
from ipcv.errors import SidecarError
from ipcv.output.sidecars import WRITERS, Sidecars


def item(video, place=None, name=None):
    return Item(id=name or video, video=video, place=place or video.rpartition("/")[2])


def record(answer="A cat.", start=0.0, end=2.5, question="What?"):
    return {"id": "x", "start": start, "end": end, "question": question, "answer": answer, "parts": 1}


def names(*items, kinds=("txt",), folder=None):
    sidecars = Sidecars(kinds=kinds, folder=folder, items=items)
    return [str(path) for each in items for path in sidecars.paths(each)]


def test_they_stand_beside_the_video_or_in_the_same_tree(tmp_path):
    assert names(item("v/a.b.mp4"), kinds=("txt", "srt")) == ["v/a.b.txt", "v/a.b.srt"]
    assert names(item("v/sub/a.mp4", "sub/a.mp4"), folder=tmp_path) == [str(tmp_path / "sub/a.txt")]
    assert names(item("../../a.mp4", "../../a.mp4"), folder=tmp_path) == [str(tmp_path / "a.txt")]


def test_no_two_are_the_same():
    assert names(item("a/x.mp4"), item("a/x.mov"), item("a/X.mkv"), item("a/y.mp4")) == [
        "a/x.mp4.txt",
        "a/x.mov.txt",
        "a/X.mkv.txt",
        "a/y.txt",
    ]
    twice = names(item("a/x.mp4", name="one"), item("a/x.mp4", name="two"))
    assert len(set(twice)) == 2
    assert all(name.startswith("a/x.mp4-") for name in twice)


def test_what_somebody_else_has_written_is_not_touched(tmp_path):
    video = item(str(tmp_path / "a.mp4"))
    sidecars = Sidecars(kinds=("txt",), items=(video,))
    sidecars.check(video)
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(SidecarError, match="is there already: it is not from this output"):
        sidecars.check(video)


def written(tmp_path, kind, *records):
    video = item(str(tmp_path / "clip.mp4"))
    Sidecars(kinds=(kind,), items=(video,)).write(video, records)
    path = tmp_path / f"clip.{kind}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    return path.read_text(encoding="utf-8")


def test_text_json_and_tables(tmp_path):
    assert written(tmp_path, "txt", record("A cat. "), record("A dog.")) == "A cat.\nA dog.\n"
    (tmp_path / "clip.txt").unlink()
    assert json.loads(written(tmp_path, "json", record())) == record()
    (tmp_path / "clip.json").unlink()
    rows = list(csv.reader(written(tmp_path, "csv", record('A "cat",\nhere.')).splitlines(keepends=True)))
    assert rows == [["id", "start", "end", "question", "answer"], ["x", "0.0", "2.5", "What?", 'A "cat",\nhere.']]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_show_each_caption_in_its_time_whatever_is_in_it(tmp_path, kind):
    first = record("A cat --> {\\b1}jumps.\n\n2\n00:00:00,000 --> soon\nout", 0.0, 2.5)
    text = written(tmp_path, kind, first, record("It lands.", 2.5, 3661.25), record("Softly.", 2.5, 3661.25))
    events = pysubs2.SSAFile.from_string(text, kind)
    assert [(event.start, event.end) for event in events] == [(0, 2500), (2500, 3661250)]
    assert events[1].plaintext == "It lands.\nSoftly."
    assert "jumps" in events[0].plaintext
    assert text.count("-->") == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " +", "\n@", "\uff1d"])
def test_no_cell_of_a_table_is_a_formula(tmp_path, start):
    hostile = f'{start}HYPERLINK("http://host")'
    text = written(tmp_path, "csv", record(hostile, question=hostile) | {"id": hostile})
    (row,) = list(csv.reader(text.splitlines(keepends=True)))[1:]
    assert [cell for cell in row if cell.startswith("'")] == [f"'{hostile}"] * 3
    assert row[1:3] == ["0.0", "2.5"]


@pytest.mark.parametrize("kind", WRITERS)
def test_no_control_character_is_in_any_sidecar(tmp_path, kind):
    controls = "".join(map(chr, [*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0xDC80, 0xE0041]))
    arabic = "\u0645\u06cc\u200c\u062e\u200f!"
    text = written(tmp_path, kind, record(f"A{controls}B {arabic}", question=controls) | {"id": controls})
    assert not [char for char in text if char not in "\n\r\t" and char not in arabic and not char.isprintable()]
    assert "\t" in text or kind == "json"
    assert arabic in (json.loads(text)["answer"] if kind == "json" else text)


def test_signs_of_markup_are_shown_as_they_are(tmp_path):
    answer = "a < b & <i>c</i> > &amp; --> <00:01.000>"
    text = written(tmp_path, "vtt", record(answer))
    assert html.unescape(text.splitlines()[4]) == answer
    assert not re.search(r"<|&(?!amp;|lt;|gt;)", text)
    (tmp_path / "clip.vtt").unlink()
    text = written(tmp_path, "srt", record(answer))
    assert not re.search("<[/a-z]", text)
    assert "a < b & " in text


def test_an_unchanged_file_is_left_alone(tmp_path):
    video = item(str(tmp_path / "clip.mp4"))
    sidecars = Sidecars(kinds=("txt",), items=(video,))
    sidecars.write(video, [record()])
    before = (tmp_path / "clip.txt").stat().st_ino
    sidecars.write(video, [record()])
    assert (tmp_path / "clip.txt").stat().st_ino == before
    sidecars.write(video, [record("Another.")])
    assert (tmp_path / "clip.txt").read_text() == "Another.\n"


def test_wrong_kinds_and_remote_videos_without_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="side-car 'docx' is not known"):
        Sidecars(kinds=("docx",))
    with pytest.raises(ValueError, match="give output_dir"):
        Sidecars(kinds=("txt",), items=(item("https://host/a.mp4"),))
