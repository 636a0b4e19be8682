"""The output file survives any end: torn lines are cut off, what is replaced goes, one run at a time."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ipcv.errors import OutputBusyError, OutputLostError
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal
from ipcv.output.lines import line


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def lines(name, key="k", parts=1, text="x"):
    return [{"id": name, "key": key, "part": part, "parts": parts, "answer": text} for part in range(parts)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def test_what_is_appended_is_there_and_known(path):
    with Journal(path) as journal:
        journal.append(lines("a"))
        journal.append(lines("b", parts=3))
        assert journal.is_done("b", "k")
        assert not journal.is_done("b", "other")
        assert journal.read("b", "k") == lines("b", parts=3)
    assert path.read_bytes() == b"".join(map(line, lines("a") + lines("b", parts=3)))
    with Journal(path) as journal:
        assert list(journal.records()) == lines("a") + lines("b", parts=3)
        assert journal.repaired == 0


def test_wherever_a_run_was_cut_off_the_next_one_goes_on_to_the_same_bytes(path):
    groups = [lines("a"), lines("b", parts=3, text="long " * 5), lines("c\udcff")]
    whole = b"".join(line(record) for group in groups for record in group)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            for group in groups:
                if not journal.is_done(group[0]["id"], "k"):
                    journal.append(group)
        assert path.read_bytes() == whole, cut


def test_it_knows_whose_lines_were_cut_off(path):
    first, second = lines("a"), lines('b"\\', parts=2)
    whole = b"".join(line(record) for record in first + second)
    for cut in (len(line(first[0])) + 40, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert journal.torn == 'b"\\'
            assert journal.knows('b"\\')
            assert not journal.is_done('b"\\', "k")


def test_lines_go_only_when_they_are_to_be_replaced(path):
    with Journal(path) as journal:
        for group in (lines("a"), lines("b", parts=2), lines("c"), lines("b", key="new")):
            journal.append(group)
        before = path.read_bytes()
        assert journal.has_others("b", "newest")
        assert not journal.has_others("b", "k")
        journal.tidy()
        assert path.read_bytes() == before
        journal.replace("b", "new")
        journal.tidy()
        journal.append(lines("d"))
        with pytest.raises(OutputBusyError), Journal(path):  # the new file is held as the old one was
            pass
    assert path.read_bytes() == b"".join(map(line, lines("a") + lines("c") + lines("b", key="new") + lines("d")))


def test_lines_whose_work_broke_off_stay_until_it_is_done_again(path):
    a, b, c = lines("a"), lines("b", parts=3), lines("c")
    text = b"".join(map(line, [*b[:2], *a, *c, *b[:1]]))
    path.write_bytes(text)
    with Journal(path) as journal:
        journal.append(lines("b", key="other"))
        journal.tidy()
        assert path.read_bytes() == text + line(lines("b", key="other")[0])
        journal.append(b)
        journal.tidy()
    assert path.read_bytes() == b"".join(map(line, [*a, *c, *lines("b", key="other"), *b]))


def test_a_last_line_without_its_line_break_is_kept(path):
    path.write_bytes(line(lines("a")[0])[:-1])
    with Journal(path) as journal:
        assert journal.is_done("a", "k")
        assert journal.repaired == 0
        journal.append(lines("b"))
    assert path.read_bytes() == line(lines("a")[0]) + line(lines("b")[0])


def test_it_stops_when_the_file_is_deleted_under_it(path):
    with Journal(path) as journal:
        journal.append(lines("a"))
        path.unlink()
        with pytest.raises(OutputLostError, match=r"out\.jsonl is gone"):
            journal.append(lines("b"))


DEEP = b'{"id": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"


@pytest.mark.parametrize(
    "content", [b"hello", b"hello\n", b"[1, 2]\n", b'{"a": 1}\n', line(lines("a")[0]) + b"x\ny\n", DEEP]
)
def test_a_file_of_another_kind_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no line of captions: name another output"), Journal(path):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("first", ["out.jsonl", "link.jsonl", "twice.jsonl", "folder/out.jsonl"])
def test_one_run_at_a_time_by_whichever_name_and_nothing_stays_beside_it(path, first):
    path.touch()
    (path.parent / "link.jsonl").symlink_to(path.name)
    (path.parent / "twice.jsonl").symlink_to("link.jsonl")
    (path.parent / "folder").symlink_to(path.parent)
    before = names(path.parent)
    with Journal(path.parent / first) as journal:
        journal.append(lines("a"))
        journal.append(lines("a", key="new"))
        journal.replace("a", "new")
        journal.tidy()
        with pytest.raises(OutputBusyError, match="another run is writing it"), Journal(path):
            pass
        assert names(path.parent) == before
    assert path.read_bytes() == line(lines("a", key="new")[0])
    assert (path.parent / "link.jsonl").is_symlink()
    with Journal(path) as journal:
        journal.append(lines("b"))


def test_a_file_that_cannot_be_made_safe_is_closed_all_the_same(path, monkeypatch):
    def refuse(file):
        raise OSError(5, "Input/output error")

    before = len(names(Path("/dev/fd")))
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"), Journal(path) as journal:
        journal.append(lines("a"))
    assert len(names(Path("/dev/fd"))) == before


def test_without_room_nothing_is_torn(path):
    with Journal(path) as journal:
        journal.append(lines("a"))
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                journal.append(lines("b", text="y" * 500))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        journal.append(lines("b"))
    assert path.read_bytes() == before + line(lines("b")[0])


def failure(name, key="k"):
    return {"id": name, "key": key, "stage": "read", "message": "?"}


def test_failures_are_known_until_they_are_none(tmp_path):
    path = tmp_path / "failures.jsonl"
    failures = Failures(path)
    failures.add(failure("a"))
    failures.add(failure("b"))
    with path.open("ab") as file:
        file.write(b'{"id": "c", "ke')
    again = Failures(path)
    assert again.is_known("a", "k")
    assert not again.is_known("a", "other")
    assert not again.is_known("c", "k")
    again.add(failure("c"))
    again.add(failure("a", "other"))
    again.drop("b")
    again.tidy()
    assert path.read_bytes() == line(failure("c")) + line(failure("a", "other"))
    again.drop("c")
    again.drop("a")
    again.tidy()
    assert not path.exists()


def test_a_foreign_file_of_failures_is_refused(tmp_path):
    path = tmp_path / "failures.jsonl"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match="line 1 is no failure of a batch"):
        Failures(path)
    path.write_text("mine")
    with pytest.raises(ValueError, match="line 1 is no failure of a batch"):
        Failures(path)
    path.write_bytes(DEEP)
    with pytest.raises(ValueError, match="line 1 is no failure of a batch"):
        Failures(path)
    assert names(tmp_path) == ["failures.jsonl"]


WRITER = """
import sys
from pathlib import Path
from ipcv.output.failures import Failures
path, me = Path(sys.argv[1]), sys.argv[2]
failures = Failures(path, path.with_name(f"{me}.jsonl"))
for index in range(40):
    failures.add({"id": f"{me}-{index}", "key": "k", "stage": "read"})
    if index % 4 == 3:
        failures.drop(f"{me}-{index}")
        failures.tidy()
"""


def test_runs_that_share_a_file_of_failures_lose_none(tmp_path):
    path = tmp_path / "failures.jsonl"
    runs = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    for name in "abc":
        known = Failures(path, tmp_path / f"{name}.jsonl")
        assert list(known.records) == [f"{name}-{index}" for index in range(40) if index % 4 != 3]
    assert path.read_bytes().count(b"\n") == 90


def test_a_failure_of_another_output_stays(tmp_path):
    path = tmp_path / "failures.jsonl"
    Failures(path, tmp_path / "a.jsonl").add(failure("x"))
    Failures(path, tmp_path / "b.jsonl").add(failure("x", "other"))
    mine = Failures(path, tmp_path / "a.jsonl")
    assert mine.is_known("x", "k")
    mine.drop("x")
    mine.tidy()
    assert path.read_bytes() == line(failure("x", "other") | {"output": "b.jsonl"})
