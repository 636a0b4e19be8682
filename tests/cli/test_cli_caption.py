"""`ipcv caption` with the demo model: what it writes, how it goes on after any end, how it reports."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import commands
import jsonschema
import pytest
from hub_server import REPOSITORY, Hub, redirect
from terminals import Terminal

import ipcv_cli.captioning.runner
from ipcv import Options, Sampling
from ipcv.models.hub import find_folder
from ipcv.models.loading import DEMO_NOTICE
from ipcv_cli.display.stdout import answer_schema, caption_schema
from ipcv_cli.main import main

COUNT = "How many objects are there?"
LIKE_FAST = Options(sampling=Sampling(max_frames=4), max_new_tokens=12)
FAST = ["--model", "demo", "--max-frames", "4", "--max-new-tokens", "12"]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What the command sets in the environment is gone after the test."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.fixture
def videos(clips, tmp_path, monkeypatch):
    """A folder of its own, `videos`, in the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clips, tmp_path / "videos")
    return Path("videos")


def caption(*words, code=0):
    assert main(["caption", *map(str, words), *FAST, "--readers", "0"]) == code


def lines(path="captions.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def ids(path="captions.jsonl"):
    return [line["id"] for line in lines(path)]


FOUR = [f"videos/{index}.mp4" for index in range(4)]


def test_lines_on_stdout_are_those_of_ask_in_order(videos, demo, capsys):
    caption(videos, "--prompt", COUNT)
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["id"] for line in found] == FOUR
    for line in found:
        jsonschema.validate(line, answer_schema(stream=False))
        jsonschema.validate(line, caption_schema())
        assert line["answer"] == demo.ask(line["id"], COUNT, LIKE_FAST).answer
    assert err.startswith(f"ipcv: warning: {DEMO_NOTICE}\nipcv: done: 4 done, 0 failed, 0 left, ")
    assert err.count("\n") == 2


def test_it_goes_on_where_it_stopped_and_does_nothing_twice(videos, capsys):
    caption(videos, "-o", "whole.jsonl")
    caption(videos, "-o", "captions.jsonl", "--limit", "1")
    assert ids() == FOUR[:1]
    caption(videos, "-o", "captions.jsonl", "--json", "-q")
    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == FOUR[1:]
    assert err.endswith("to go\n") is False
    assert Path("captions.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    before = Path("captions.jsonl").stat()
    caption(videos, "-o", "captions.jsonl")
    assert capsys.readouterr().err == "ipcv: nothing to do: all 4 were done before\n"
    assert Path("captions.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    caption(FOUR[0], "-o", "captions.jsonl")
    assert capsys.readouterr().err == "ipcv: nothing to do: it was done before\n"


def test_captions_from_other_settings_or_contents_are_only_replaced_on_demand(videos, capsys):
    caption(videos, "-o", "captions.jsonl")
    first = lines()
    capsys.readouterr()
    caption(videos, "-o", "captions.jsonl", "--keep", "0.6", "-q", code=2)
    assert capsys.readouterr().err == (
        "ipcv: error: captions.jsonl has captions of 4 of these videos from other settings, contents or an earlier "
        "version: "
        "name another --output to keep them, or give --overwrite to replace them\n"
    )
    assert lines() == first
    caption(videos, "-o", "captions.jsonl", "--keep", "0.6", "--dry-run")
    out, err = capsys.readouterr()
    assert out == "".join(f"replace\t{name}\n" for name in FOUR)
    assert err == (
        "ipcv: dry run: 0 done, 0 failed, 4 left\n"
        "ipcv: replace: 4 have captions from other settings, contents or an earlier version: "
        "--overwrite replaces them\n"
    )
    caption(videos, "-o", "captions.jsonl", "--keep", "0.6", "--overwrite")
    assert ids() == FOUR
    assert all(line["settings"]["compressor"]["keep"] == 0.6 for line in lines())
    caption(videos, "-o", "captions.jsonl", "--overwrite")
    assert lines() == first
    (videos / "1.mp4").write_bytes((videos / "2.mp4").read_bytes())
    caption(videos, "-o", "captions.jsonl", code=2)
    assert lines() == first
    caption(videos, "-o", "captions.jsonl", "--overwrite")
    assert ids() == [FOUR[0], FOUR[2], FOUR[3], FOUR[1]]
    assert lines()[3]["answer"] == lines()[1]["answer"]


def test_what_cannot_be_opened_fails_without_a_model(capsys):
    assert main(["caption", "gone.mp4", "--model", "demo", "--engine", "local"]) == 4
    err = capsys.readouterr().err
    assert "ipcv: failed: gone.mp4" in err
    assert "demo model" not in err  # what it says once it is loaded


def test_overwrite_does_nothing_twice(videos, capsys):
    caption(videos, "-o", "captions.jsonl")
    before = Path("captions.jsonl").read_bytes()
    capsys.readouterr()
    caption(videos, "-o", "captions.jsonl", "--overwrite")
    assert capsys.readouterr().err == "ipcv: nothing to do: all 4 were done before\n"
    assert Path("captions.jsonl").read_bytes() == before


def test_a_dry_run_says_what_would_be_and_touches_nothing(videos, capsys):
    caption(videos, "-o", "captions.jsonl", "--limit", "2")
    (videos / "bad.mp4").write_text("These are notes.\n")
    caption("videos/bad.mp4", "-o", "captions.jsonl", code=4)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    caption(videos, "-o", "captions.jsonl", "--dry-run")
    out, err = capsys.readouterr()
    states = ["done", "done", "todo", "todo", "failed"]
    assert out == "".join(f"{state}\t{name}\n" for state, name in zip(states, [*FOUR, "videos/bad.mp4"], strict=True))
    assert err == "ipcv: dry run: 2 done, 1 failed, 2 left\n"
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_bad_videos_are_reported_remembered_and_tried_again_on_demand(videos, capsys):
    (videos / "1.mp4").write_text("These are notes.\n")
    (videos / "a\nb.mp4").touch()
    caption(videos, "-o", "captions.jsonl", code=3)
    err = capsys.readouterr().err
    assert "ipcv: failed: videos/1.mp4 is a text file, not a video\n" in err
    assert "ipcv: failed: videos/a\\nb.mp4 is empty: copy or download it again\n" in err
    assert err.endswith("; failures are in failures.jsonl\n")
    assert [(line["id"], line["stage"], line["error"]) for line in lines("failures.jsonl")] == [
        ("videos/1.mp4", "read", "VideoError"),
        ("videos/a\nb.mp4", "open", "VideoError"),
    ]
    caption(videos, "-o", "captions.jsonl", code=3)
    hint = "; failures are in failures.jsonl; --retry-failed tries again what failed before\n"
    assert capsys.readouterr().err == f"ipcv: nothing to do: 3 done before, 2 failed before{hint}"
    caption(videos, "-o", "captions.jsonl", "-q", code=3)
    assert capsys.readouterr().err == "ipcv: failed: 2 failed before; --retry-failed tries them again\n"
    shutil.copy(videos / "2.mp4", videos / "a\nb.mp4")
    caption(videos, "-o", "captions.jsonl", code=3)  # another content: it is another piece of work
    assert len(lines("failures.jsonl")) == 1
    capsys.readouterr()
    caption(videos, "-o", "captions.jsonl", "--retry-failed", "--quiet", code=3)
    assert capsys.readouterr().err == "ipcv: failed: videos/1.mp4 is a text file, not a video\n"
    shutil.copy(videos / "2.mp4", videos / "1.mp4")
    caption(videos, "-o", "captions.jsonl")
    assert not Path("failures.jsonl").exists()
    assert sorted(ids()) == [*FOUR, "videos/a\nb.mp4"]


@pytest.mark.parametrize(
    ("options", "done"), [(["--fail-fast"], 0), (["--max-failures", "1"], 1), (["--max-failures", "2"], 2)]
)
def test_it_stops_at_too_many_failures(videos, options, done, capsys):
    for name in ("1.mp4", "3.mp4"):
        (videos / name).write_text("These are notes.\n")
    (videos / "+.mp4").write_text("These are notes.\n")
    caption(videos, "-o", "captions.jsonl", "--batch-size", "1", *options, code=3)
    assert len(ids() if Path("captions.jsonl").stat().st_size else []) == done
    assert "ipcv: stopped: " in capsys.readouterr().err


def test_codes_tell_no_readable_video_from_some(videos, capsys):
    (videos / "bad.mp4").write_text("These are notes.\n")
    caption("videos/bad.mp4", "missing.mp4", code=4)
    assert "videos per minute" not in capsys.readouterr().err  # none was captioned
    caption("videos/bad.mp4", "videos/0.mp4", code=3)
    Path("empty").mkdir()
    caption("empty", code=4)
    assert (
        "ipcv: error: no video in empty: name others, or give --glob a pattern such as '*'\n" in capsys.readouterr().err
    )


def test_lists_come_from_stdin(videos, monkeypatch, capsys):
    shutil.copy(videos / "0.mp4", videos / "with 'quotes' and\nnewline.mp4")
    data = b"videos/1.mp4\0videos/with 'quotes' and\nnewline.mp4\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    caption("-0", "-", "-q")
    found = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["videos/1.mp4", "videos/with 'quotes' and\nnewline.mp4"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    caption("-")
    assert capsys.readouterr().err == "ipcv: done: the list is empty\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    caption("-", code=2)
    assert "the list on stdin has NUL characters: give -0" in capsys.readouterr().err


def test_names_that_are_no_text_and_dashes_are_names(videos, capsys):
    strange = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(videos / "0.mp4", strange)
    shutil.copy(videos / "0.mp4", "-x.mp4")
    assert main(["caption", *FAST, "--readers", "1", "-q", "-o", "captions.jsonl", "--", strange, "-x.mp4"]) == 0
    first, second = lines()
    assert (os.fsencode(first["id"]), second["id"]) == (b"caf\xe9.mp4", "-x.mp4")
    assert first["answer"] == second["answer"]
    assert capsys.readouterr().err == ""


def test_a_manifest_asks_its_own_questions(videos, demo, capsys):
    manifest = [{"id": "a", "video": "0.mp4", "question": COUNT}, {"id": "b", "video": "0.mp4", "start": 1, "end": 2}]
    (videos / "list.jsonl").write_text("\n".join(map(json.dumps, manifest)))
    caption("videos/list.jsonl", "-q")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["id"], first["question"]) == ("a", COUNT)
    assert first["answer"] == demo.ask(videos / "0.mp4", COUNT, LIKE_FAST).answer
    assert (second["start"], second["end"], second["question"]) == (1.0, 2.0, "Describe the video.")


def test_segments_and_questions_are_lines_and_sidecars(videos):
    words = [videos / "0.mp4", "--segments", "2s", "--question", "Describe the video.", "--question", COUNT]
    caption(*words, "-o", "captions.jsonl", "--sidecar", "srt", "--sidecar", "csv", "-q")
    found = lines()
    assert [line["part"] for line in found] == list(range(len(found)))
    assert {line["parts"] for line in found} == {len(found)}
    assert [line["start"] for line in found[:4]] == [0.0, 0.0, 2.0, 2.0]
    rows = list(csv.DictReader(Path("videos/0.csv").read_text().splitlines()))
    assert [row["answer"] for row in rows] == [line["answer"] for line in found]
    assert Path("videos/0.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:02,000\n" + found[0]["answer"])


def test_sidecars_are_made_again_without_the_model_and_keep_off_other_peoples_files(videos, capsys):
    Path("videos/2.txt").write_text("mine")
    caption(videos, "--sidecar", "txt", "--sidecar", "json", code=3)
    assert "ipcv: output: captions.jsonl remembers what is done; -o names another file" in capsys.readouterr().err
    assert Path("videos/2.txt").read_text() == "mine"
    assert ids() == [FOUR[0], FOUR[1], FOUR[3]]
    assert Path("videos/0.txt").read_text() == lines()[0]["answer"] + "\n"
    Path("videos/0.txt").unlink()
    Path("videos/1.json").write_text("{}")
    caption(videos, "--sidecar", "txt", "--sidecar", "json", code=3)
    assert "videos per minute" not in capsys.readouterr().err
    assert Path("videos/0.txt").read_text() == lines()[0]["answer"] + "\n"
    assert json.loads(Path("videos/1.json").read_text()) == lines()[1]
    caption(videos, "--sidecar", "txt", "--sidecar", "json", "--overwrite")
    assert Path("videos/2.txt").read_text() != "mine"


def test_the_sidecar_of_a_line_that_was_cut_off_is_ours(videos, capsys):
    caption(videos, "-o", "captions.jsonl", "--sidecar", "txt", "-q")
    whole = Path("captions.jsonl").read_bytes()
    Path("captions.jsonl").write_bytes(whole[:-100])
    caption(videos, "-o", "captions.jsonl", "--sidecar", "txt")
    assert "that an earlier run left unfinished are removed" in capsys.readouterr().err
    assert Path("captions.jsonl").read_bytes() == whole


def test_sidecars_go_into_a_tree_of_their_own(videos):
    (videos / "sub").mkdir()
    shutil.copy(videos / "0.mp4", videos / "sub/x.mp4")
    shutil.copy(videos / "1.mp4", videos / "sub/x.mkv")
    caption(videos, "--sidecar", "txt", "--output-dir", "out/put", "-q")
    found = sorted(str(path.relative_to("out/put")) for path in Path("out/put").rglob("*.txt"))
    assert found == ["0.txt", "1.txt", "2.txt", "3.txt", "sub/x.mkv.txt", "sub/x.mp4.txt"]
    assert len(ids("out/put/captions.jsonl")) == 6


def test_a_pipe_and_dev_null_get_the_lines_and_nothing_is_left_beside_them(videos, capsys):
    os.mkfifo("pipe")
    devices, read = sorted(Path("/dev").glob("*null*")), []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reader.start()
    caption(FOUR[0], "-o", "pipe")
    reader.join(60)
    assert [json.loads(line)["id"] for line in read[0].splitlines()] == FOUR[:1]
    out, err = capsys.readouterr()
    assert out == ""
    assert "ipcv: output: pipe is no file: nothing is remembered, and the same command starts anew\n" in err
    caption(FOUR[0], "-o", os.devnull)
    caption(FOUR[0], "-o", "/dev/stdout", "-q")
    assert json.loads(capsys.readouterr().out)["id"] == FOUR[0]
    assert sorted(path.name for path in Path().iterdir()) == ["pipe", "videos"]
    assert sorted(Path("/dev").glob("*null*")) == devices


def test_a_sidecar_in_the_way_is_safe_from_a_run_that_remembers_nothing(videos, capsys):
    (videos / "0.txt").write_text("mine")
    caption(FOUR[0], "-o", "-", "--sidecar", "txt", "-q", code=3)
    assert (videos / "0.txt").read_text() == "mine"
    assert "videos/0.txt is there already" in capsys.readouterr().err
    caption(FOUR[0], "-o", "-", "--sidecar", "txt", "-q", "--overwrite")
    assert (videos / "0.txt").read_text() != "mine"


def test_a_failure_names_its_item(videos, capsys):
    Path("list.jsonl").write_text(json.dumps({"id": "c", "video": "videos/0.mp4", "question": "What is \udfff?"}))
    caption("list.jsonl", "-q", code=3)
    says = "ipcv: failed: c: the text contains '\\udfff', a byte or half that is no character: leave it out\n"
    assert capsys.readouterr().err == says


def test_two_runs_on_one_output_exclude_each_other(videos, capsys):
    from ipcv.output.journal import Journal

    with Journal(Path("captions.jsonl")):
        caption(videos, "-o", "captions.jsonl", code=1)
    assert capsys.readouterr().err == (
        "ipcv: error: captions.jsonl is in use: another run is writing it; wait for that one, or name another output\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prompt", "x", "--style", "short"], "--prompt and --style exclude each other"),
        (["--prompt", " "], "the question is empty"),
        (["--segments", "often"], "segments 'often' are not known"),
        (["--shard", "1of2"], "--shard 1of2 makes no sense"),
        (["--shard", "3/2"], "shard 3/2 makes no sense"),
        (["--limit", "0"], "--limit 0 must be at least 1"),
        (["-0"], "-0 is about a list on stdin"),
        (["--output-dir", "x"], "--output-dir is where side-cars go"),
        (["--sidecar", "docx"], "side-car 'docx' is not known"),
        (["-o", "no/such/folder.jsonl"], "there is no such folder"),
        (["-o", "s3://bucket/x.jsonl"], "is a URL: name a local place, and copy from there afterwards"),
        (["--sidecar", "txt", "--output-dir", "s3://bucket/x"], "is a URL: name a local place"),
        (["--sidecar", "txt", "--output-dir", "videos/0.mp4/x"], "videos/0.mp4 is not a folder; name another place"),
        (["-o", "videos"], "videos is a folder: name a file"),
        (
            ["-o", "x.csv"],
            "x.csv would get JSON lines, whatever its ending says: name it x.jsonl, or ask for --parquet",
        ),
        (["-o", "x.JSON"], "name it x.jsonl, or ask for --parquet or --sidecar as well"),
        (["-o", "x.jsonl.gz"], "x.jsonl.gz would get JSON lines"),
        (["-o", "x.jsonl", "--parquet", "x.csv"], "x.csv would get a Parquet table, whatever its ending says"),
        (["-o", "x.jsonl", "--failures", "x.txt"], "x.txt would get JSON lines"),
        (["-o", "/dev/full"], "/dev/full is a device or a socket: name a file"),
        (["-o", "videos/0.mp4"], "is no line of captions: name another output"),
        (["--parquet", "x.parquet"], "--parquet is made of the captions in a file: give --output as well"),
        (["--timeout", "5"], "a timeout needs reader processes"),
        (["--batch-size", "0"], "--batch-size 0 must be at least 1"),
        (["--keep", "2"], "keep=2.0 must be"),
        (["--layer", "77"], "past the encoder's last block"),
        (["--max-download", "much"], "'much' is not a size"),
        (["--cache", "videos/0.mp4"], "is not a folder"),
        (["--cache", "kept", "--segments", "10s"], "--segments and --cache exclude each other"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_what_makes_no_sense_is_one_line_and_code_2(videos, words, says, capsys):
    before = (videos / "0.mp4").read_bytes()
    caption(videos, "--quiet", *words, code=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert (videos / "0.mp4").read_bytes() == before


def test_people_get_text_on_a_terminal(videos, monkeypatch, capsys):
    monkeypatch.setattr(ipcv_cli.captioning.runner, "is_terminal", lambda stream: True)
    caption("videos/0.mp4", "--prompt", COUNT, "-q")
    out = capsys.readouterr().out
    assert out.startswith("videos/0.mp4: ")
    assert out.count("\n") == 1


def arguments(*words):
    return ("caption", "videos", *FAST, "-o", "captions.jsonl", *words)


def test_a_terminal_shows_how_far_it_is(videos):
    with Terminal() as terminal:
        process = commands.start(*arguments(), stdout=subprocess.PIPE, stderr=terminal.file)
        assert process.communicate(timeout=120)[0] == b""
    assert process.returncode == 0
    assert "4 done, 0 failed, 0 left" in terminal.screen
    assert b"left" in terminal.received
    assert b"loading demo" in terminal.received
    assert "loading" not in terminal.screen
    assert terminal.cursor_is_visible


def test_a_terminal_that_shows_captions_says_what_takes_long(videos):
    with Terminal() as terminal:
        process = commands.start("caption", "videos/0.mp4", *FAST, stdout=terminal.file, stderr=terminal.file)
        assert process.wait(120) == 0
    assert b"starting" in terminal.received
    assert b"loading demo" in terminal.received
    assert terminal.screen.startswith("ipcv: warning: the demo model")
    assert "videos/0.mp4: " in terminal.screen
    assert "starting" not in terminal.screen
    assert "loading" not in terminal.screen
    assert terminal.cursor_is_visible


def test_an_interrupt_keeps_what_is_done_and_the_next_run_goes_on(videos):
    whole = commands.ipcv("caption", "videos", *FAST, "-o", "whole.jsonl")
    assert whole.returncode == 0
    process = commands.start(*arguments("--batch-size", "1"), stderr=subprocess.PIPE)
    while not (Path("captions.jsonl").exists() and Path("captions.jsonl").stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith(b"ipcv: interrupted: ")
    assert err.endswith(b"; the same command goes on from here\n")
    assert b"Traceback" not in err
    assert 1 <= len(ids()) <= 4
    assert commands.ipcv(*arguments()).returncode == 0
    assert Path("captions.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_killed_at_any_moment_it_ends_as_if_undisturbed(videos):
    """A few random moments; `tests/faults` tries many."""
    (videos / "bad.mp4").write_text("These are notes.\n")
    started = time.monotonic()
    assert commands.ipcv("caption", "videos", *FAST, "-o", "whole/captions.jsonl").returncode == 2
    Path("whole").mkdir()
    assert commands.ipcv("caption", "videos", *FAST, "-o", "whole/captions.jsonl").returncode == 3
    length = time.monotonic() - started
    rng = random.Random(0)
    for _ in range(3):
        process = commands.start(*arguments("--sidecar", "txt"), stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.0) * length)
        process.kill()
        process.wait()
    assert commands.ipcv(*arguments("--sidecar", "txt")).returncode == 3
    for name in ("captions.jsonl", "failures.jsonl"):
        assert Path(name).read_bytes() == (Path("whole") / name).read_bytes()
    assert sorted(path.name for path in videos.glob("*.txt")) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert not list(videos.glob(".ipcv-*"))


def test_without_room_it_stops_and_tears_nothing(videos):
    """A limit on the size of files stands in for a full disk."""
    code = (
        "import resource, sys; from ipcv_cli.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *arguments("--readers", "0")]
    done = subprocess.run(command, env=commands.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no space left where the output goes" in done.stderr
    assert "Traceback" not in done.stderr
    assert ids() == FOUR[:1]
    assert Path("captions.jsonl").read_bytes().endswith(b"\n")
    caption(videos, "-o", "captions.jsonl")
    assert ids() == FOUR


def test_the_cache_serves_ask_and_caption_and_can_be_looked_at(videos, capsys):
    assert main(["ask", "videos/0.mp4", COUNT, "--model", "demo", "--cache", "kept", "--max-frames", "4"]) == 0
    answer = capsys.readouterr().out
    assert main(["ask", "videos/0.mp4", COUNT, "-m", "demo", "--cache", "kept", "--max-frames", "4", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["answer"] + "\n" == answer
    assert second["stages"][2]["seconds"] == 0
    caption(videos, "--cache", "kept", "-q")
    assert main(["cache", "ls", "--cache", "kept"]) == 0
    listed = capsys.readouterr().out.splitlines()[-4:]
    assert sorted(line.split("\t")[2] for line in listed) == FOUR
    assert main(["cache", "size", "--cache", "kept"]) == 0
    assert int(capsys.readouterr().out) == sum(path.stat().st_size for path in Path("kept").iterdir())
    assert main(["cache", "rm", "--cache", "kept"]) == 0
    assert capsys.readouterr().err.startswith("ipcv: removed: 4 encodings, ")
    assert not list(Path("kept").iterdir())


@pytest.mark.parametrize("quiet", [True, False])
def test_a_download_is_announced_unless_quiet(quiet, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ["caption", "videos/0.mp4", "--model", REPOSITORY, *FAST[2:], "--readers", "0"]
    with Hub(find_folder("demo")) as hub:
        redirect(monkeypatch, hub.address)
        assert main([*words, *["--quiet"][:quiet]]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"]["name"] == REPOSITORY
    assert (f"ipcv: fetching: {REPOSITORY} from the Hugging Face hub, 14.83 MB\n" in err) is not quiet
