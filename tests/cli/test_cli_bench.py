"""`ipcv bench` and `ipcv world`: exact output, exit codes, and the files they leave."""

import json
import re
import signal
import subprocess
import time

import commands
import jsonschema
import pytest
from terminals import Terminal

from ipcv.benchmark.wordings import KINDS
from ipcv.models.loading import DEMO_NOTICE
from ipcv_cli.display.stdout import report_schema
from ipcv_cli.main import main

NOTICE = f"ipcv: warning: {DEMO_NOTICE}\n"
FEW = "11 questions say little, with fewer than 5 of a kind: use 110 or more"


def test_a_benchmark_is_tables_on_stdout_and_a_plot_where_it_was_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    plot = tmp_path / "plot.svg"
    assert main(["bench", "-n", "11", "--settings", "dense,paper@0.2,other", "--plot", str(plot)]) == 0
    out, err = capsys.readouterr()
    assert err == f"{NOTICE}ipcv: warning: {FEW}\n"
    lines = out.splitlines()
    assert lines[0] == "11 questions, demo on cpu, float32"
    assert [line.split()[0] for line in lines[5:8]] == ["dense", "paper@0.2", "other"]
    assert [line.partition(" camera ")[0] for line in (lines[10], lines[17])] == ["still", "moving"]
    assert [line.split()[0] for line in (*lines[12:15], *lines[19:22])] == 2 * ["dense", "paper@0.2", "other"]
    assert lines[23].split() == ["right,", "in", "%", *KINDS, "all"]
    assert [line.split()[0] for line in lines[25:30]] == ["questions", "constant", "dense", "paper@0.2", "other"]
    assert "paper@0.2" in plot.read_text()


def test_a_benchmark_in_json_has_everything(capsys):
    assert main(["bench", "-n", "11", "-s", "dense,grey", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    jsonschema.validate(report, report_schema())
    assert report["questions"] == 11
    dense, grey = report["scores"]
    assert (dense["name"], dense["settings"]["shown"], grey["settings"]["shown"]) == ("dense", "frames", "grey")
    assert len(grey["changed"]) == round((1 - grey["same_answers"]) * 11)
    assert {"text", "truth", "first", "answer", "points"} <= set(grey["changed"][0])
    assert set(report["constant"]) == set(report["by_kind"])
    assert report["warnings"] == [DEMO_NOTICE, FEW]


def test_five_questions_of_each_kind_are_no_longer_few(capsys):
    assert main(["bench", "-n", "55", "-s", "dense", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["by_kind"] == dict.fromkeys(KINDS, 5)
    assert report["warnings"] == [DEMO_NOTICE]


def test_an_interrupt_ends_a_benchmark_with_a_report_on_what_was_asked():
    with Terminal() as terminal:
        words = ("bench", "-n", "4000", "-s", "dense", "--json")
        process = commands.start(*words, stdout=subprocess.PIPE, stderr=terminal.file)
        while not re.search(rb"\b[1-9]\d*/4000", terminal.received):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 130
    assert 1 <= report["questions"] < 4000
    assert report["questions"] == sum(report["by_kind"].values())
    assert f"stopped after {report['questions']} of 4000 questions" in report["warnings"]
    assert f"stopped after {report['questions']} of 4000 questions" in terminal.screen


def test_other_methods_stand_beside_each_other(capsys):
    settings = ["dense", "tome@0.5", "evs@0.5", "vidcom2@0.3", "dtd@0.3", "v2drop", "tome@0.5+evs@0.5+v2drop"]
    assert main(["bench", "-n", "11", "-s", ",".join(settings), "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, report_schema())
    assert [score["name"] for score in report["scores"]] == settings
    dense, tome, *between, v2drop, everything = (score["flops"] for score in report["scores"])
    assert tome["encode"] == everything["encode"] < 0.8 * dense["encode"]
    assert tome["prefill"] == dense["prefill"]
    assert all(each["encode"] == dense["encode"] for each in (*between, v2drop))
    assert all(each["prefill"] < 0.7 * dense["prefill"] for each in (*between, v2drop))
    assert everything["prefill"] < min(v2drop["prefill"], between[0]["prefill"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--settings", "papre"],
            "'papre' is not known (did you mean 'paper'?); known: dense, coverage, paper, tome, evs,",
        ),
        (["--plot", "plot.pdf"], "--plot plot.pdf must end in .png or .svg (see `ipcv bench --help`)"),
        (["--settings", "paper:layer=12"], "layer=12 is past the encoder's last block: it has 12, from 0 to 11"),
        (
            ["--questions", str(len(KINDS) - 1)],
            "Invalid value for '--questions' / '-n': at least 11, one of each kind (see `ipcv bench --help`)\n",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line_and_code_2(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ipcv: error: {message}")
    assert err.count("\n") == 1


def test_a_world_is_written_and_said_so(tmp_path):
    done = commands.ipcv("world", str(tmp_path / "out"), "--clips", "2", "--seed", "7")
    assert (done.stdout, done.stderr, done.returncode) == ("", f"ipcv: wrote: 2 clips to {tmp_path / 'out'}\n", 0)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clip-0000.mp4", "clip-0001.mp4", "questions.jsonl"]


def test_a_world_before_a_still_camera_says_so_in_every_line(tmp_path, capsys):
    assert main(["world", str(tmp_path / "out"), "--clips", "1", "--camera", "still", "-q"]) == 0
    lines = (tmp_path / "out/questions.jsonl").read_text().splitlines()
    assert {json.loads(line)["camera"] for line in lines} == {"still"}
    assert main(["world", str(tmp_path / "out"), "--camera", "shaky", "-q"]) == 2
    assert "'shaky' is not one of" in capsys.readouterr().err


def test_a_world_overwrites_nothing_unless_told_to(tmp_path, capsys):
    (tmp_path / "questions.jsonl").write_text("mine")
    assert main(["world", str(tmp_path), "--clips", "1"]) == 2
    message = f"{tmp_path} has a questions.jsonl already: choose another folder, or give --overwrite"
    assert capsys.readouterr() == ("", f"ipcv: error: {message}\n")
    assert (tmp_path / "questions.jsonl").read_text() == "mine"
    assert main(["world", str(tmp_path), "--clips", "1", "--overwrite", "-q"]) == 0
    assert json.loads((tmp_path / "questions.jsonl").read_text().splitlines()[0])["video"] == "clip-0000.mp4"


def test_a_world_needs_a_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["world", str(tmp_path / "file")]) == 2
    assert "file is not a folder: give the name of one, new or old" in capsys.readouterr().err
    assert main(["world", str(tmp_path / "file" / "below")]) == 1
    message = f"{tmp_path / 'file' / 'below'}: not a directory; name another place, or make this one usable"
    assert capsys.readouterr().err == f"ipcv: error: {message}\n"
