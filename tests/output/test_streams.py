"""Output that is no file: every line goes out at once, nothing is left behind, and nothing waits for ever."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ipcv.errors import OutputLostError
from ipcv.output import streams
from ipcv.output.lines import line
from ipcv.output.places import Places
from ipcv.output.streams import Stream, is_stream, is_writable_stream

RECORDS = [{"id": "a", "key": "k", "part": 0, "parts": 1, "answer": "x"}] * 3


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_pipes_and_dev_null_are_streams_and_other_devices_are_refused(pipe, tmp_path):
    (tmp_path / "file").touch()
    assert [is_stream(path) for path in (pipe, Path(os.devnull), Path("/dev/full"))] == [True] * 3
    assert not any(is_stream(path) for path in (tmp_path, tmp_path / "file", tmp_path / "new", Path("x" * 300)))
    assert is_writable_stream(pipe)
    assert is_writable_stream(Path(os.devnull))
    assert not is_writable_stream(Path("/dev/full"))
    assert not is_writable_stream(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["pipe", os.devnull])
def test_a_stream_has_neither_a_journal_nor_failures_beside_it(pipe, name):
    places = Places(output=pipe.parent / name)
    places.check()
    assert places.stream == pipe.parent / name
    assert places.journal is None
    assert places.failures_file is None


def test_failures_may_go_to_dev_null(tmp_path):
    places = Places(output=tmp_path / "captions.jsonl", failures=Path(os.devnull))
    places.check()
    assert places.failures_file is None


def test_the_reader_of_a_pipe_may_come_late(pipe):
    read = []
    reader = threading.Timer(0.3, lambda: read.append(pipe.read_bytes()))
    reader.start()
    with Stream(pipe) as stream:
        stream.write(RECORDS)
        stream.write(RECORDS[:1])
    reader.join()
    assert read == [line(RECORDS[0]) * 4]


def test_a_pipe_that_nobody_reads_is_an_error(pipe, monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 0.1)
    with pytest.raises(OSError, match="Nobody reads this pipe") as error, Stream(pipe):
        pass
    assert error.value.filename == str(pipe)


def test_a_pipe_whose_reader_goes_is_an_error_and_no_quiet_end(pipe):
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Stream(pipe) as stream:
        os.close(reader)
        with pytest.raises(OutputLostError, match="nobody reads it any more"):
            stream.write(RECORDS)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_dev_stdout_is_stdout_whatever_that_is(kind):
    import socket

    code = """
from pathlib import Path
from ipcv.output.streams import Stream, is_writable_stream
path = Path("/dev/stdout")
assert is_writable_stream(path)
with Stream(path) as stream:
    stream.write([{"id": "a"}])
"""
    if kind == "pipe":
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
        assert done.stdout == b'{"id": "a"}\n'
        return
    near, far = socket.socketpair()
    subprocess.run([sys.executable, "-c", code], stdout=far, check=True)
    assert near.recv(100) == b'{"id": "a"}\n'
