"""Which videos a batch is about: folders, lists, manifests, in a stable order."""

import json
import os

import pytest

from ipcv.batch.inputs import collect, shard, split_list
from ipcv.batch.plan import Plan, describe


@pytest.fixture
def tree(tmp_path):
    """A folder as people have them: several kinds, hidden files, links in circles, broken links."""
    for name in (
        "b.mp4",
        "a.MOV",
        "notes.txt",
        "sub/c.webm",
        "sub/deep/d.mkv",
        ".hidden.mp4",
        ".git/e.mp4",
        "x/._b.mp4",
    ):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "tree/sub/circle").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/sub/self.mp4").symlink_to(tmp_path / "tree/sub/self.mp4")
    (tmp_path / "tree/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    return tmp_path / "tree"


def places(*sources, **patterns):
    return [item.place for item in collect(map(str, sources), **patterns)]


def test_a_folder_is_searched_all_the_way_down_in_order_and_never_in_circles(tree):
    assert places(tree) == ["a.MOV", "b.mp4", "gone.mp4", "sub/c.webm", "sub/deep/d.mkv", "sub/self.mp4"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ({"take": ["*.txt"]}, ["notes.txt"]),
        ({"take": ["sub/*/d.*"]}, ["sub/deep/d.mkv"]),
        ({"leave": ["sub"]}, ["a.MOV", "b.mp4", "gone.mp4"]),
        ({"leave": ["*.mp4", "sub/deep"]}, ["a.MOV", "sub/c.webm"]),
    ],
)
def test_patterns_choose(tree, patterns, found):
    assert places(tree, **patterns) == found


def test_what_is_given_twice_is_taken_once_and_several_folders_keep_apart(tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.mp4").touch()
    found = places(tree, other, tree / "b.mp4", other)
    assert len(found) == len(set(found)) == 7
    assert {"tree/b.mp4", "other/b.mp4"} <= set(found)


def test_a_folder_that_may_not_be_listed_is_an_item_with_a_problem(tree, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    (tree / "zz").mkdir()
    listing = type(tree).iterdir
    monkeypatch.setattr(type(tree), "iterdir", lambda path: refuse(path) if path.name == "zz" else listing(path))
    (item,) = (item for item in collect([str(tree)]) if item.problem)
    assert item.problem == f"{tree}/zz cannot be listed: Permission denied"


def test_names_that_are_no_text_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9 'quoted'\n-x.mp4")
    (tmp_path / name).touch()
    (item,) = collect([str(tmp_path)])
    assert item.video == str(tmp_path / name)
    assert os.fsencode(item.id).endswith(b"caf\xe9 'quoted'\n-x.mp4")


def test_a_name_that_is_too_long_is_an_item_like_any_other():
    assert [item.id for item in collect(["x" * 300, "y.mp4"])] == ["x" * 300, "y.mp4"]


def test_lists_have_a_path_per_line_or_before_each_nul():
    assert split_list("\ufeffa b.mp4\r\n\nc.mp4".encode(), nul=False) == ["a b.mp4", "c.mp4"]
    assert split_list(b"a\nb.mp4\0\xff.mp4\0", nul=True) == ["a\nb.mp4", "\udcff.mp4"]


def test_a_manifest_brings_ids_questions_and_times(tmp_path):
    lines = [
        {"id": 7, "video": "a.mp4", "question": "Why?", "start": 1, "end": "1:30", "kind": "other"},
        {"id": "b", "video": "https://host/b.mp4"},
        {"video": "/abs/c.mp4"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    first, second, third = collect([str(path)])
    assert (first.id, first.video, first.question) == ("7", str(tmp_path / "a.mp4"), "Why?")
    assert (first.start, first.end) == (1.0, 90.0)
    assert (second.video, second.place) == ("https://host/b.mp4", "b.mp4")
    assert (third.id, third.video, third.place) == ("/abs/c.mp4", "/abs/c.mp4", "abs/c.mp4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "line 1: a line is an object"),
        ('{"video": "a"}\n{"id": 1}', "line 2: there is no video in it"),
        ('{"video": "a"}\n{"video": "a"}', "line 2: the id .*a is there twice"),
        ("{", "line 1: Expecting"),
        ("[" * 100_000, "line 1: this JSON is nested too deeply"),
        ('{"video": "a"}\n' + "[" * 100_000 + "]" * 100_000, "line 2: this JSON is nested too deeply"),
    ],
    ids=lambda text: text[:30],
)
def test_a_manifest_that_makes_no_sense_names_the_line(tmp_path, text, says):
    path = tmp_path / "list.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        collect([str(path)])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"question": 3}, "the question must be text, not 3"),
        ({"question": " "}, "the question must be text, not ' '"),
        ({"start": "soon"}, "'soon' is not a time"),
        ({"end": 10**400}, "a time is a finite number of seconds"),
        ({"start": float("nan")}, "a time is a finite number of seconds"),
        ({"start": -1}, "start"),
        ({"start": 2, "end": 1}, "end"),
    ],
)
def test_a_question_or_time_that_makes_no_sense_is_the_failure_of_its_item(tmp_path, asked, says):
    path = tmp_path / "list.jsonl"
    (tmp_path / "a.mp4").write_text("x")
    lines = [{"video": "a.mp4"}, {"id": "bad", "video": "a.mp4"} | asked]
    path.write_text("\n".join(map(json.dumps, lines)))
    good, bad = (describe(Plan(), {}, item) for item in collect([str(path)]))
    assert good.failed is None
    assert bad.failed.kind == "settings"
    assert says in bad.failed.message


def test_shards_are_all_of_it_once_and_do_not_move_when_others_come(tree):
    items = collect([str(tree)])
    parts = [shard(items, index, 3) for index in (1, 2, 3)]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in items)
    fewer = shard(items[1:], 1, 3)
    assert [item for item in parts[0] if item in items[1:]] == fewer
    with pytest.raises(ValueError, match="shard 4/3 makes no sense"):
        shard(items, 4, 3)


def test_an_id_may_be_half_a_character(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text("".join(f'{{"id": "\\ud8{number:02x}", "video": "a{number}.mp4"}}\n' for number in range(16)))
    items = collect([str(path)])
    parts = [shard(items, index, 3) for index in (1, 2, 3)]
    assert sorted(item.id for part in parts for item in part) == [item.id for item in items]
    assert all(parts)


def test_a_query_is_no_part_of_a_sidecars_name(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"video": "https://host/b.mp4?token=secret&x=/y"}\n{"id": "c", "video": "s3://bucket/?v=1"}')
    found = collect(["https://host/v/a.mp4?token=secret#t=3", str(path)])
    assert [item.place for item in found] == ["a.mp4", "b.mp4", "video"]
    assert found[0].video == "https://host/v/a.mp4?token=secret#t=3"


def test_two_videos_of_one_name_are_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "x", "video": f"{name}.mp4"}))
    with pytest.raises(ValueError, match="two different videos are called x"):
        collect([str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")])
