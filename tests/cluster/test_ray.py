"""`ipcv caption --engine ray` on a real cluster of two workers: what it writes is what one process writes.

Workers are killed while they work: one from outside, and those that get a video which takes its reader down.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import commands
import fsspec
import psutil
import pytest

from ipcv.batch.inputs import collect
from ipcv.batch.plan import Plan, describe
from ipcv.cluster.ray_cluster import WorkerPlan, share
from ipcv.cluster.worker import checked
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip
from ipcv.world.scene import HELD_OUT_SEEDS
from ipcv_cli.main import main

DEADLY = "deadly://x.mp4"
PLUGIN = '''"""A store whose files take whoever reads them down: what a bug in a decoder can do."""
import os, signal
from fsspec import AbstractFileSystem

class Deadly(AbstractFileSystem):
    protocol = "deadly"

    def info(self, path, **_):
        return {"name": path, "size": 1, "type": "file"}

    def get_file(self, *_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
'''
SETTINGS = ["--model", "demo", "--max-frames", "8", "--max-new-tokens", "12", "-o", "captions.jsonl"]
ONE_BY_ONE = ["--readers", "0", "--prefetch", "1", "--batch-size", "2"]


def lines(path="captions.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def wait_for_lines(process, count):
    while not (Path("captions.jsonl").exists() and Path("captions.jsonl").read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of its own with twelve clips and a text, and a library that knows `deadly://`."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "videos").mkdir()
    for index, seed in enumerate(HELD_OUT_SEEDS[11:23]):
        write_clip(folder / f"videos/{index:02}.mp4", make_clip(seed, size=112, fps=4))
    (folder / "videos/text.mp4").write_text("These are notes.\n")
    (folder / "library/deadly-1.dist-info").mkdir(parents=True)
    (folder / "library/deadly.py").write_text(PLUGIN)
    (folder / "library/deadly-1.dist-info/METADATA").write_text("Name: deadly\nVersion: 1\n")
    (folder / "library/deadly-1.dist-info/entry_points.txt").write_text("[fsspec.specs]\ndeadly=deadly:Deadly\n")
    root = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder / 'library'}:{root}:{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_ADDRESS", "local")
        patch.syspath_prepend(folder / "library")
        patch.chdir(folder)
        fsspec.register_implementation("deadly", "deadly.Deadly", clobber=True)
        yield folder


@pytest.fixture(scope="module")
def local(place):
    """What one process makes of the clips, by id."""
    assert main(["caption", "videos", *SETTINGS[:-1], "local.jsonl", "--readers", "0", "-q"]) == 3
    return {line["id"]: line for line in lines("local.jsonl")}


@pytest.fixture(scope="module")
def run(place, local):
    """A whole run of two actors, one of which is killed once there is a caption."""
    command = ["caption", "videos", DEADLY, *SETTINGS, *ONE_BY_ONE, "--json", "--engine", "ray", "--actors", "2"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = commands.start(*command, **streams)
    wait_for_lines(process, 1)
    workers = [each for each in family(process) if each.name().startswith("ray::Worker")]
    ports = [port for each in family(process) for port in each.net_connections("inet") if port.status == "LISTEN"]
    max(workers, key=lambda worker: worker.cpu_times().user).kill()  # the one that has done most
    done_then = len(lines())
    out, err = process.communicate(timeout=200)
    assert len(workers) == 2
    return SimpleNamespace(
        code=process.returncode, out=out.decode(), err=err.decode(), done_then=done_then, ports=ports
    )


def test_a_cluster_that_is_started_here_listens_to_this_machine_alone(run):
    assert run.ports
    assert {port.laddr.ip for port in run.ports} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(run, local):
    assert run.done_then < len(local)
    assert sorted(json.loads(line)["id"] for line in run.out.splitlines()) == sorted(local)
    assert len(lines()) == len(local)
    assert {line["id"]: line for line in lines()} == local


def test_the_end_of_a_worker_is_told_and_nothing_else_of_ray(run):
    assert [json.loads(line) for line in run.out.splitlines()] == lines()
    first, notice, *rest = [line for line in run.err.splitlines() if not line.startswith("ipcv: progress: ")]
    assert first == (
        "ipcv: ray: actors on a cluster started here, which only this machine reaches: 2; for each, CPUs: 1, GPUs: 0"
    )
    assert notice.startswith("ipcv: warning: the demo model knows only")
    deaths = [line for line in rest if line.startswith("ipcv: warning: worker ")]
    assert deaths[0].endswith(tuple(f"; what it had is done again: {count}" for count in range(1, 9)))
    assert len(deaths) in (3, 4)  # three of the deadly video, of which the killed worker may have been one
    assert set(rest) - set(deaths) == {
        "ipcv: failed: videos/text.mp4 is a text file, not a video",
        next(line for line in rest if line.startswith(f"ipcv: failed: {DEADLY}")),
        rest[-1],
    }
    assert rest[-1].startswith("ipcv: done: 12 done, 2 failed, 0 left, ")


def test_a_video_that_takes_its_worker_down_fails_after_three_tries(run):
    assert run.code == 3
    failed = {line["id"]: line for line in lines("failures.jsonl")}
    assert set(failed) == {DEADLY, "videos/text.mp4"}
    assert failed[DEADLY]["stage"] in ("read", "encode")  # a worker may end before its last news has come
    assert failed[DEADLY]["error"] == "WorkerCrashError"
    assert "its worker ended 3 times, the last ones alone with it" in failed[DEADLY]["message"]
    (local,) = lines("local.failures.jsonl")
    assert failed["videos/text.mp4"] | {"output": "local.jsonl"} == local


def test_one_process_goes_on_from_there_and_finds_nothing_to_do(run, capsys):
    before = Path("captions.jsonl").stat()
    assert main(["caption", "videos", DEADLY, *SETTINGS]) == 3
    hint = "; failures are in failures.jsonl; --retry-failed tries again what failed before\n"
    expected = f"ipcv: nothing to do: 12 done before, 2 failed before{hint}"
    assert capsys.readouterr().err == expected
    assert Path("captions.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_an_interrupt_ends_the_cluster_and_keeps_what_is_done(local, tmp_path, monkeypatch):
    """Begun by one process, gone on with by a cluster, ended by one process."""
    shutil.copytree("videos", tmp_path / "videos")
    monkeypatch.chdir(tmp_path)
    assert main(["caption", "videos", *SETTINGS, "--readers", "0", "--limit", "2", "-q"]) == 0
    first = Path("captions.jsonl").read_bytes()
    command = ["caption", "videos", *SETTINGS, *ONE_BY_ONE, "--engine", "ray"]
    process = commands.start(*command, stderr=subprocess.PIPE, start_new_session=True)
    wait_for_lines(process, 3)
    others = family(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("ipcv: interrupted: ")
    assert "Traceback" not in err
    assert len(others) > 2
    assert psutil.wait_procs(others, timeout=10)[1] == []
    assert Path("captions.jsonl").read_bytes().startswith(first)
    assert 3 <= len(lines()) < len(local)
    assert main(["caption", "videos", *SETTINGS, "--readers", "0", "-q"]) == 3
    assert len(lines()) == len(local)
    assert [line["answer"] for line in sorted(lines(), key=lambda line: line["id"])] == [
        line["answer"] for line in local.values()
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--actors", "2"], "--actors is about a cluster: give --engine ray as well"),
        (["--gpus-per-actor", "1"], "--gpus-per-actor is about a cluster: give --engine ray as well"),
        (["--engine", "ray", "--actors", "0"], "--actors 0 must be at least 1"),
        (["--engine", "ray", "--gpus-per-actor", "1.5"], "1.5 GPUs per actor make no sense"),
        (["--engine", "ray", "--gpus-per-actor", "-1"], "-1 GPUs per actor make no sense"),
        (["--engine", "ray", "--device", "cuda:1"], "Ray chooses the GPU of each actor; give --device cuda"),
        (["--engine", "ray", "--device", "cpu", "--gpus-per-actor", "1"], "exclude each other"),
    ],
)
def test_what_makes_no_sense_is_said_before_a_cluster_is_started(place, words, says, capsys):
    assert main(["caption", "videos", "--model", "demo", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_without_ray_there_is_a_hint(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["caption", "videos", "--model", "demo", "--engine", "ray"]) == 2
    assert capsys.readouterr().err == "ipcv: error: the engine ray needs Ray: pip install 'ipcv[ray]'\n"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://head:10001", "Ray Client is no way to do this; start it on a machine of the cluster"),
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9 (Connection refused): start the cluster, or unset"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_one_line(place, address, says, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(["caption", "videos", "--model", "demo", "--engine", "ray"]) == 1
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "cannot be read on the machine"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"X"), "is another file on the machine"),
    ],
)
def test_a_file_that_is_not_the_same_on_a_workers_machine_is_a_failure(clips, tmp_path, change, says):
    video = shutil.copy(clips / "0.mp4", tmp_path / "0.mp4")
    work = describe(Plan(), {}, *collect([str(video)]))
    assert checked(work) == work
    change(video)
    failed = checked(work).failed
    assert (failed.key, failed.stage, failed.error) == (work.key, "open", "VideoError")
    assert says in failed.message


CPUS, GPUS = {"CPU": 16.0, "memory": 1e9}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "actors", "gpus", "expected"),
    [
        ([CPUS], None, None, WorkerPlan(count=1, gpus=0.0, cpus=16, room=1, neighbors=1)),
        ([CPUS, CPUS], 4, None, WorkerPlan(count=4, gpus=0.0, cpus=8, room=4, neighbors=2)),
        ([CPUS, CPUS], 3, None, WorkerPlan(count=3, gpus=0.0, cpus=10, room=2, neighbors=1)),
        ([CPUS, {"CPU": 0.0}], None, None, WorkerPlan(count=1, gpus=0.0, cpus=16, room=1, neighbors=1)),
        ([GPUS, GPUS, CPUS], None, None, WorkerPlan(count=8, gpus=1.0, cpus=1, room=8, neighbors=1)),
        ([GPUS, GPUS], None, 3.0, WorkerPlan(count=2, gpus=3.0, cpus=1, room=2, neighbors=1)),
        ([GPUS], 12, 0.5, WorkerPlan(count=12, gpus=0.5, cpus=1, room=8, neighbors=2)),
        ([GPUS], None, 0.0, WorkerPlan(count=1, gpus=0.0, cpus=32, room=1, neighbors=1)),
        ([CPUS], 2, 1.0, WorkerPlan(count=2, gpus=1.0, cpus=1, room=0, neighbors=1)),
    ],
)
def test_a_cluster_is_divided_among_its_actors(nodes, actors, gpus, expected):
    assert share(nodes, actors, gpus) == expected
