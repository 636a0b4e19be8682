"""The output file survives any end: torn lines are cut off, what is replaced goes, one run at a time."""

import os
import resource

import pytest

from ipcv.errors import OutputBusyError
from ipcv.output.failures import Failures
from ipcv.output.journal import Journal, line


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
        assert journal.read("b") == lines("b", parts=3)
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
    path.write_bytes(whole[:-10])
    with Journal(path) as journal:
        assert journal.unfinished == {'b"\\'}
        assert set(journal.entries) == {"a"}


def test_later_lines_replace_earlier_ones_once_all_is_done(path):
    with Journal(path) as journal:
        for group in (lines("a"), lines("b", parts=2), lines("c")):
            journal.append(group)
        journal.append(lines("b", key="new"))
        assert path.read_bytes().count(b'"id": "b"') == 3
        journal.tidy()
        journal.append(lines("d"))
    assert path.read_bytes() == b"".join(map(line, lines("a") + lines("c") + lines("b", key="new") + lines("d")))
    with Journal(path) as journal:
        before = path.stat().st_ino
        journal.tidy()
        assert path.stat().st_ino == before  # nothing to do


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b"[1, 2]\n", b'{"a": 1}\n', line(lines("a")[0]) + b"x\ny\n"])
def test_a_file_of_another_kind_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no line of captions: name another output"), Journal(path):
        pass
    assert path.read_bytes() == content


def test_one_run_at_a_time(path):
    with Journal(path), pytest.raises(OutputBusyError, match="another run is writing it"), Journal(path):
        pass
    with Journal(path) as journal:
        journal.append(lines("a"))


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
    assert os.listdir(tmp_path) == ["failures.jsonl"]  # noqa: PTH208
