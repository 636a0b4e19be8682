"""Videos read ahead by processes: the same frames, in order, never too many, and no hanging decoder hangs the rest."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from odd_jobs import Babbling, Chatty, Hanging, Hungry, Noisy, Spy, Stalling

from ipcv.architecture.preprocess import PatchSettings
from ipcv.errors import MemoryExhaustedError, ReaderCrashError, ReadTimeoutError, VideoError
from ipcv.limits.budget import Limit
from ipcv.limits.measure import BudgetPlanner, PictureText
from ipcv.media.sampling import Sampling
from ipcv.media.segments import Segments, windows
from ipcv.readers.child import TRIES
from ipcv.readers.job import ReadJob
from ipcv.readers.pool import Readers
from ipcv.readers.scratch import scratch_folder


def job(path, kind=ReadJob, **changes):
    planner = BudgetPlanner(patches=PatchSettings(), reducer=None, may_reduce=True, text=PictureText())
    limit = Limit(visual=10**6, source="context")
    settings = {"sampling": Sampling(), "segments": None, "planner": planner, "limit": limit, "frame_batch": 4}
    return kind(video=str(path), **settings | changes)


def contents(reading):
    """Everything that a reading hands out."""
    found = []
    for span, clip, _ in reading:
        found.append((span, clip.times, clip.size, np.concatenate(list(clip)), clip.facts, clip.warnings))
    return found


def same(one, other):
    return all(
        a[:3] == b[:3] and np.array_equal(a[3], b[3]) and a[4:] == b[4:] for a, b in zip(one, other, strict=True)
    )


OTHERS: set[int] = set()  # the processes that tests before this one have started, and keep


@pytest.fixture(scope="module", autouse=True)
def no_children_yet():
    OTHERS.clear()
    OTHERS.update(child.pid for child in psutil.Process().children())


def children():
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if child.pid not in OTHERS and "ipcv" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_processes_read_what_is_read_here_and_in_order(clips):
    jobs = [job(path, segments=Segments(seconds=2)) for path in sorted(clips.iterdir())]
    with Readers(0, 1) as here:
        expected = [contents(reading) for reading in here.read(jobs)]
    with Readers(2, 2) as readers:
        found = [contents(reading) for reading in readers.read(jobs)]
        assert len(children()) == 2
    assert not children()
    assert len(found) == 4
    assert all(map(same, found, expected))
    assert [span for span, *_ in found[0]] == list(windows(2, 0.0, found[0][0][4].duration))


@pytest.fixture(scope="module")
def one():
    """One reader process, which may take five seconds over a video."""
    with Readers(1, 1, timeout=5.0) as readers:
        yield readers


def test_errors_belong_to_their_video(one, clips, tmp_path):
    good, bad = next(clips.iterdir()), tmp_path / "bad.mp4"
    bad.write_text("These are notes.\n")
    readings = one.read([job(bad), None, job(good), job(good, sampling=Sampling(start=99))])
    with pytest.raises(VideoError, match=r"bad\.mp4 is a text file, not a video"):
        contents(next(readings))
    assert next(readings) is None
    assert len(contents(next(readings))) == 1
    with pytest.raises(VideoError, match="the clip would start at 99 s, but the video ends"):
        contents(next(readings))


def test_what_is_not_wanted_any_more_does_not_disturb_the_next(one, clips):
    path = max(clips.iterdir(), key=lambda path: path.stat().st_size)
    long = job(path, frame_batch=2, sampling=Sampling(fps=4))
    readings = one.read([long, long])
    _, clip, _ = next(iter(next(readings)))
    next(iter(clip))
    assert len(contents(next(readings))) == 1


def test_a_decoder_that_hangs_is_ended_and_the_next_video_is_read(one, clips):
    path = next(clips.iterdir())
    assert [contents(reading) for reading in one.read([job(path)])]
    (process,) = children()
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    readings = one.read([job(path), job(path)])
    with pytest.raises(ReadTimeoutError, match=f"^{path}: reading took more than 5 s and was ended$"):
        contents(next(readings))
    assert time.monotonic() - started < 20
    assert contents(next(readings))
    assert [child.pid for child in children()] != [process.pid]


def test_a_reader_that_hangs_in_the_middle_of_a_message_is_ended_too(one, clips):
    path = next(clips.iterdir())
    readings = one.read([job(path, Stalling), job(path)])
    with pytest.raises(ReadTimeoutError, match="reading took more than 5 s and was ended"):
        contents(next(readings))
    assert contents(next(readings))


def test_a_decoder_that_crashes_is_replaced(one, clips):
    only = job(next(clips.iterdir()))
    readings = one.read([only])
    assert contents(next(readings))
    (process,) = children()
    readings = one.read([job(only.video, Hanging), only])
    reading = next(readings)
    threading.Timer(0.5, process.kill).start()
    with pytest.raises(ReaderCrashError, match="the process that read it ended with code -9"):
        contents(reading)
    assert contents(next(readings))


def test_a_reader_that_is_killed_before_it_begins_a_video_does_not_fail_it(one, clips):
    only = job(next(clips.iterdir()))
    assert [contents(reading) for reading in one.read([only])]
    for kills in (1, 2, 3):
        began, fails = time.monotonic(), kills == TRIES
        children()[0].send_signal(signal.SIGSTOP)
        killer = threading.Thread(target=kill_new_readers, args=(kills,))
        killer.start()
        readings = one.read([only])
        with pytest.raises(ReaderCrashError, match="code -9") if fails else nullcontext():
            assert contents(next(readings))
        killer.join()
        assert time.monotonic() - began < 60


def kill_new_readers(count):
    """Kill the reader process soon, then each that takes its place, `count` in all."""
    time.sleep(0.3)
    seen, until = set(), time.monotonic() + 30
    while len(seen) < count and time.monotonic() < until:
        for child in children():
            if child.pid not in seen and len(seen) < count:
                seen.add(child.pid)
                child.kill()
        time.sleep(0.001)


def test_an_interrupt_from_the_terminal_reaches_no_reader(one, clips):
    """A terminal sends it to the whole group of the process that runs in it, and a reader may still be starting."""
    assert [contents(reading) for reading in one.read([job(min(clips.iterdir()))])]
    assert [os.getpgid(child.pid) for child in children()] == [child.pid for child in children()]
    assert children()


def test_a_process_that_the_system_refuses_is_the_failure_of_its_video(clips, monkeypatch):
    good = min(clips.iterdir())
    with monkeypatch.context() as changed:
        changed.setattr("sys.executable", "/nowhere/python")
        with Readers(1, 1) as readers:
            with pytest.raises(FileNotFoundError):
                [contents(reading) for reading in readers.read([job(good)])]
            changed.undo()
            assert [contents(reading) for reading in readers.read([job(good)])]


def test_a_reader_process_loads_no_transformers(one, clips):
    (reading,) = map(contents_or_error, one.read([job(next(clips.iterdir()), Spy)]))
    loaded = set(str(reading).split())
    assert {"torch", "av", "ipcv.readers.job"} <= loaded
    assert not {"transformers", "accelerate", "huggingface_hub", "pydantic"} & loaded


def contents_or_error(reading):
    try:
        return contents(reading)
    except ValueError as error:
        return error


def test_libraries_that_print_disturb_nothing_and_are_logged(clips, capfd, caplog):
    path = next(clips.iterdir())
    with caplog.at_level("DEBUG", logger="ipcv.readers"), Readers(1, 1) as readers:
        quiet, noisy = map(contents, readers.read([job(path), job(path, Noisy)]))
    assert same(quiet, noisy)
    assert capfd.readouterr() == ("", "")
    assert sorted(record.args[0] for record in caplog.records) == ["\\x1bnoise from a library", "noise from Python"]


def test_a_library_that_prints_without_end_stops_nothing(clips):
    path = next(clips.iterdir())
    with Readers(1, 1) as readers:
        assert [contents(reading) for reading in readers.read([job(path, Chatty)])]


@pytest.mark.parametrize("closed", [(0, 1, 2), (2,)], ids=str)
def test_messages_are_kept_apart_from_what_is_printed_where_standard_streams_are_closed(clips, tmp_path, closed):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\nfor number in map(int, sys.argv[3:]):\n    os.close(number)\n"
        "from odd_jobs import Noisy\nfrom test_pool import Readers, job, contents\n"
        "with Readers(1, 1, timeout=60) as readers:\n"
        "    (found,) = [contents(each) for each in readers.read([job(sys.argv[1], Noisy)])]\n"
        "open(sys.argv[2], 'w').write(str(len(found)))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])  # noqa: PTH109
    done = subprocess.run(
        [sys.executable, str(script), str(next(clips.iterdir())), str(tmp_path / "count"), *map(str, closed)],
        env=os.environ | {"PYTHONPATH": paths},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "count").read_text() == "1"


def test_a_reader_that_sends_no_messages_is_ended_and_the_next_video_is_read(one, clips):
    path = next(clips.iterdir())
    readings = one.read([job(path, Babbling), job(path)])
    with pytest.raises(ReaderCrashError, match=r"the process that read it sent no message .* and was ended"):
        contents(next(readings))
    assert contents(next(readings))


def test_a_video_that_takes_too_much_memory_fails_alone(one, clips, monkeypatch):
    monkeypatch.setattr("ipcv.readers.pool.reader_memory", lambda _: 300 << 20)
    path = next(clips.iterdir())
    readings = one.read([job(path, Hungry), job(path)])
    with pytest.raises(MemoryExhaustedError, match=f"^{path}: reading it takes more than 0.3 GiB of memory"):
        contents(next(readings))
    assert contents(next(readings))


def test_folders_of_processes_that_were_killed_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; from ipcv.readers.scratch import scratch_folder\nwith scratch_folder() as folder:\n"
    code += (
        "    (folder / 'video').write_bytes(bytes(99))\n    print(folder, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    left = Path(done.stdout.strip())
    assert (left / "video").exists()
    with scratch_folder() as first:
        assert not left.exists()
        with scratch_folder() as second:
            assert sorted(tmp_path.iterdir()) == sorted([first, second])
        assert list(tmp_path.iterdir()) == [first]
    assert not list(tmp_path.iterdir())


def test_modules_in_the_current_folder_are_not_taken_for_those_of_the_library(clips, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise SystemExit(1)\n")
    path = next(clips.iterdir()).absolute()
    monkeypatch.chdir(tmp_path)
    with Readers(1, 1) as readers:
        assert list(map(contents, readers.read([job(path)])))


def test_readers_end_with_the_process_that_started_them(clips, tmp_path):
    """Even if that is killed while a decoder hangs; its script, which has no main guard, runs once; no file is left."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\nfrom odd_jobs import Hanging\n"
        "from test_pool import Readers, job, contents, children\n"
        "with Readers(1, 1) as readers:\n"
        "    readings = readers.read([job(sys.argv[1]), job(sys.argv[1], Hanging)])\n    contents(next(readings))\n"
        "    print(*[child.pid for child in children()], flush=True)\n    time.sleep(60)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])  # noqa: PTH109
    parent = psutil.Popen(
        [os.sys.executable, str(script), str(next(clips.iterdir()))],
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
        stdout=-1,
    )
    child = psutil.Process(int(parent.stdout.readline()))
    assert list(tmp_path.glob("ipcv-readers-*"))
    parent.kill()
    parent.wait()
    assert child.wait(timeout=10) is None or not child.is_running()
    assert not list(tmp_path.glob("ipcv-readers-*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((-1, 1), "readers=-1"), ((1, 0), "prefetch=0"), ((1, 1, 0.0), "timeout=0"), ((0, 1, 5.0), "a timeout needs")],
)
def test_settings_that_make_no_sense_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Readers(*arguments)
