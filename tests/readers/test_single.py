"""Files of a question, read by a process that can be killed: the same frames, and no file takes anything else along."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from odd_jobs import faulty_clip
from PIL import Image

from ipcv.errors import MemoryExhaustedError, ReaderCrashError, VideoError
from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling
from ipcv.media.sources import StillImage
from ipcv.readers.single import FileReader


@pytest.fixture(scope="module")
def reader():
    with FileReader() as reader:
        yield reader


def process_of(reader):
    return psutil.Process(reader._process._process.pid)


def test_frames_facts_and_warnings_are_those_of_reading_here(reader, clips):
    for path in sorted(clips.iterdir()):
        here = open_video(path, Sampling(fps=4), frame_batch=4)
        there = reader.through(open_video(reader.find(path), Sampling(fps=4), frame_batch=4))
        for _ in range(2):
            assert np.array_equal(np.concatenate(list(here)), np.concatenate(list(there)))
        assert (here.times, here.size, here.facts, here.warnings) == (
            there.times, there.size, there.facts, there.warnings
        )  # fmt: skip


def test_one_process_reads_all_files(reader, clips, tmp_path):
    Image.new("RGB", (140, 140), "red").save(tmp_path / "red.png")
    reader.find(tmp_path / "red.png")
    first = process_of(reader).pid
    assert isinstance(reader.find(tmp_path / "red.png"), StillImage)
    with pytest.raises(VideoError, match="does not exist"):
        reader.find(tmp_path / "missing.mp4")
    assert len(list(reader.through(open_video(min(clips.iterdir()))))) > 0
    assert process_of(reader).pid == first


def test_finding_a_file_loads_no_torch_and_no_transformers(clips):
    reader = FileReader()
    reader.find(min(clips.iterdir()))
    libraries = {Path(each.path).name for each in process_of(reader).memory_maps()}
    assert any("avcodec" in name for name in libraries)
    assert not any("torch" in name for name in libraries)


def test_a_pass_that_is_given_up_does_not_disturb_the_next(reader, clips):
    clip = reader.through(open_video(max(clips.iterdir()), Sampling(fps=9), frame_batch=2))
    expected = np.concatenate(list(clip))
    for _ in range(3):
        next(iter(clip))
        assert np.array_equal(np.concatenate(list(clip)), expected)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("crash", ReaderCrashError, "the process that read it ended with code -6"),
        ("hunger", MemoryExhaustedError, "reading it takes more than 0.2 GiB of memory"),
        ("corrupt", VideoError, "it is broken"),
    ],
)
def test_a_file_that_takes_its_process_along_is_one_failure(reader, clips, monkeypatch, fault, error, says):
    monkeypatch.setattr("ipcv.readers.single.reader_memory", lambda _: 256 << 20)
    path = min(clips.iterdir())
    with pytest.raises(error, match=says):
        list(reader.through(faulty_clip(fault)))
    assert len(list(reader.through(open_video(path))))


def test_closing_a_clip_whose_frames_do_not_come_does_not_wait_for_them(reader):
    clip = reader.through(faulty_clip("hang"))
    threading.Timer(0.5, clip.close).start()
    began = time.monotonic()
    with pytest.raises(ReaderCrashError, match="ended with code -9"):
        list(clip)
    assert time.monotonic() - began < 4


def test_a_process_that_is_killed_before_it_begins_is_replaced(reader, clips):
    reader.find(min(clips.iterdir()))
    process_of(reader).kill()
    assert reader.find(min(clips.iterdir())).facts.frames


def test_a_relative_path_goes_from_the_folder_of_the_caller(reader, clips, monkeypatch):
    reader.find(min(clips.iterdir()))
    monkeypatch.chdir(clips)
    assert reader.find(min(clips.iterdir()).name).facts.frames > 0


def test_the_process_ends_with_its_reader(clips):
    reader = FileReader()
    reader.find(min(clips.iterdir()))
    process = process_of(reader)
    del reader
    gc.collect()
    assert process.wait(timeout=10) is None or not process.is_running()


def test_signals_end_a_command_that_waits_for_a_file_and_its_process(tmp_path):
    """A pipe into which nobody writes stands for a source that never ends."""
    code = (
        "import signal, sys\nfrom odd_jobs import faulty_clip\nfrom ipcv.readers.single import FileReader\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "reader = FileReader()\nreader.start().wait_until_ready()\nprint(reader._process._process.pid, flush=True)\n"
        "list(reader.through(faulty_clip('hang')))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])  # noqa: PTH109
    for number, code_expected in ((signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)):
        parent = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, stdout=-1, stderr=-3
        )
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.5)
        parent.send_signal(number)
        assert parent.wait(timeout=30) == code_expected
        assert child.wait(timeout=10) is None or not child.is_running()
