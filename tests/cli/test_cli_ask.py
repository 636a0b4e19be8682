"""`ipcv ask` with the demo model and a real file: what it prints, what it leaves, how it ends."""

import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import av
import commands
import jsonschema
import pytest
from terminals import Terminal

from ipcv import IPCV
from ipcv.models.hub import find_folder
from ipcv.models.loading import DEMO_NOTICE
from ipcv_cli.display.stdout import answer_schema
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"
NOTICE = f"ipcv: warning: {DEMO_NOTICE}\n"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What the command sets in the environment is gone after the test."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """The demo model without an end: it writes until it is stopped."""
    folder = shutil.copytree(find_folder("demo"), tmp_path_factory.mktemp("models") / "talker")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 10**6}))
    return str(folder)


def endless(clip, talker, *options):
    return ("ask", str(clip), "Describe the video.", "--model", talker, "--max-new-tokens", "6000", *options)


def test_the_answer_goes_to_stdout_and_the_notice_to_stderr(clip, truth, capsys):
    assert main(["ask", str(clip), COLOUR, "--model", "demo"]) == 0
    assert capsys.readouterr() == (truth[COLOUR] + "\n", NOTICE)


def test_json_is_the_answer_of_the_library(demo, clip, capsys):
    assert main(["ask", str(clip), COLOUR, "--model", "demo", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, answer_schema(stream=False))
    answer = demo.ask(clip, COLOUR)
    assert err == NOTICE
    assert found["answer"] == answer.answer
    assert found["video"]["path"] == str(clip)
    assert found["frames"]["times"] == list(answer.frames.times)
    assert found["savings"]["encode_flops"] == answer.savings.encode_flops
    assert found["warnings"] == [DEMO_NOTICE]
    assert [stage["name"] for stage in found["stages"]] == ["read", "preprocess", "encode", "prefill", "generate"]


def test_json_lines_come_as_things_happen_and_fit_the_schema(clip, truth, capsys):
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--json-stream", "--frame-batch", "4", "-q"]) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    for line in lines:
        jsonschema.validate(line, answer_schema(stream=True))
    assert [line["frames_done"] for line in lines if line["event"] == "frame_batch"] == [4, 8]
    assert "".join(line["text"] for line in lines if line["event"] == "token") == truth[COLOUR]
    assert lines[-1]["event"] == "final"
    assert err == ""


def test_json_lines_end_with_the_error_where_there_is_no_answer(capsys):
    assert main(["ask", "no-such.mp4", COLOUR, "-m", "demo", "--json-stream"]) == 4
    out, err = capsys.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, answer_schema(stream=True))
    assert found == {"event": "error", "message": "no-such.mp4 does not exist: check the path", "exit_code": 4}
    assert err == f"ipcv: error: {found['message']}\n"


def test_options_reach_the_model(clip, capsys):
    options = [
        "--fps",
        "1",
        "--start",
        "0:01",
        "--end",
        "3.5",
        "--frame-batch",
        "2",
        "--keep",
        "0.5",
        "--stabilize",
        "1",
        "--reuse",
        "0",
    ]
    options += ["--llm-pruner", "fastv", "--llm-keep", "0.25", "--llm-layer", "1", "--system", "You are terse."]
    options += ["--max-new-tokens", "1", "--temperature", "0.5", "--seed", "7", "--layer", "2", "--neighbors", "3"]
    assert (
        main(["ask", str(clip), COLOUR, "-m", "demo", "--json", "--dtype", "bfloat16", "--device", "cpu", *options])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["frames"]["times"] == [1.0, 2.0, 3.0, 3.4375]
    assert found["model"]["dtype"] == "bfloat16"
    assert found["settings"]["compressor"]["keep"] == 0.5
    assert (
        found["settings"]["compressor"] | {"layer": 2, "stabilize": 1, "neighbors": 3}
        == found["settings"]["compressor"]
    )
    assert found["settings"]["pruner"] == {"keep": 0.25, "layer": 1, "method": "fastv"}
    assert found["settings"]["system"] == "You are terse."
    assert found["settings"]["seed"] == 7
    assert found["finish_reason"] == "length"


def test_a_preset_is_told_by_its_settings_and_options_win(clip, capsys):
    options = ["--preset", "fast", "--keep", "0.3", "--stabilizer", "neighbors"]
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, answer_schema(stream=False))
    assert found["settings"]["compressor"] == asdict(IPCV.preset("fast", keep=0.3, stabilizer="neighbors"))


def test_other_methods_answer_and_say_what_they_were(clip, capsys):
    options = ["--method", "tome", "--keep", "0.6", "--reducer", "vidcom2", "--reducer-keep", "0.5"]
    options += ["--llm-pruner", "v2drop"]
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, answer_schema(stream=False))
    assert found["settings"]["compressor"] == {"keep": 0.6, "method": "tome"}
    assert found["settings"]["reducer"] == {"keep": 0.5, "method": "vidcom2"}
    assert found["settings"]["pruner"] == {"keep": [0.25, 0.05, 0.0], "layers": None, "method": "v2drop"}
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["encode"]["tokens_computed"] == int(stages["encode"]["tokens_in"] * 0.6)
    assert stages["prefill"]["tokens_computed"] < stages["prefill"]["tokens_in"] - found["frames"]["visual_tokens"]
    assert found["savings"]["cache_share"] < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "tome", "--layer", "2"], "--method tome and --layer exclude each other"),
        (["--preset", "fast", "--method", "tome"], "--preset fast and --method tome exclude each other"),
        (["--preset", "fast", "--quality", "0.9"], "--preset fast and --quality exclude each other"),
        (["--no-compress", "--preset", "fast"], "--no-compress and --preset exclude each other"),
        (["--reuse", "1"], "--reuse 1.0 must be at least 0 and less than 1"),
        (["--reuse", "0.03", "--stabilize", "3"], "--reuse 0.03 needs --stabilize all, not 3"),
        (["--reducer-keep", "0.5"], "--reducer-keep says how much --reducer keeps: name one, as in --reducer evs"),
        (["--reducer", "evs", "--reducer-keep", "0"], "EVS keep=0.0 must be more than 0 and at most 1"),
        (["--llm-pruner", "v2drop", "--llm-keep", "0.5"], "--llm-pruner v2drop and --llm-keep exclude each other"),
        (["--method", "tome", "--keep", "0.05"], "ToMe keep=0.05 would merge more than half of the tokens"),
    ],
)
def test_settings_of_other_methods_that_make_no_sense_are_one_line_and_code_2(options, message, clip, capsys):
    assert main(["ask", str(clip), COLOUR, "-m", "demo", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"ipcv: error: {message}" in err


def test_the_plain_model_saves_nothing(clip, truth, capsys):
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--json", "--no-compress"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == truth[COLOUR]
    assert found["settings"]["compressor"] is None
    assert found["settings"]["pruner"] is None
    assert found["savings"]["total_flops"] == 1


def test_a_baseline_is_measured(clip, truth, capsys):
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--baseline", "--repeats", "2", "-v"]) == 0
    out, err = capsys.readouterr()
    assert out == truth[COLOUR] + "\n"
    assert "ipcv: savings: measured: times as fast as uncompressed, 2 pairs of runs in turn" in err
    assert err.count("too few pairs to call") == 3


def test_repeats_are_those_of_a_baseline(clip, capsys):
    assert main(["ask", str(clip), COLOUR, "-m", "demo", "--repeats", "2"]) == 2
    assert "--repeats 2 is about a baseline: ask for --baseline as well" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.mp4", "does not exist"),
        (".", "is a folder, not a video"),
        ("empty.mp4", "is empty"),
        ("notes.mp4", "is a text file, not a video"),
        ("-q.mp4", "does not exist"),
        ("bad\nname\x1b[2J.mp4", "does not exist"),
    ],
)
def test_a_wrong_file_is_one_line_and_code_4(name, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    Path("notes.mp4").write_text("These are notes.\n")
    assert main(["ask", "--model", "demo", "--json", "--", name, COLOUR]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ipcv: error: ")
    assert says in err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_a_wrong_file_is_reported_before_a_model_is_looked_for(capsys):
    assert main(["ask", "missing.mp4", COLOUR, "--model", "./no/such/folder"]) == 4


def test_a_model_that_is_not_there_is_code_5_and_names_the_demo(clip, capsys):
    assert main(["ask", str(clip), COLOUR, "--model", "./no/such/folder"]) == 5
    assert capsys.readouterr().err == (
        "ipcv: error: no model folder './no/such/folder'; give a folder, a hub name such as "
        "Qwen/Qwen2-VL-2B-Instruct, or 'demo'\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--keep", "1.5"],
        ["--layer", "99"],
        ["--fps", "-1"],
        ["--start", "1:75"],
        ["--start", "3", "--end", "2"],
        ["--frame-batch", "3"],
        ["--max-new-tokens", "0"],
        ["--temperature", "-1"],
        ["--device", "abacus"],
        ["--revision", "main"],
        ["--max-pixels", "1"],
    ],
    ids=lambda options: options[0],
)
def test_settings_that_make_no_sense_are_code_2(options, clip, capsys):
    assert main(["ask", str(clip), COLOUR, "--model", "demo", "--quiet", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ipcv: error: ")
    assert err.count("\n") == 1


def test_a_model_without_a_chat_template_is_code_5(clip, tmp_path, capsys):
    folder = shutil.copytree(find_folder("demo"), tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert main(["ask", str(clip), COLOUR, "--model", str(folder)]) == 5
    assert capsys.readouterr().err.startswith("ipcv: error: the chat template in ")


@pytest.mark.parametrize("quant", ["4bit", "8bit"])
def test_quantised_and_quiet_there_is_only_the_answer(quant, clip, truth):
    question = "How many objects are there?"
    done = commands.ipcv("ask", str(clip), question, "--model", "demo", "--quant", quant, "--quiet")
    assert (done.stdout, done.stderr, done.returncode) == (truth[question] + "\n", "", 0)


def test_debug_adds_the_traceback(capsys):
    assert main(["ask", "missing.mp4", COLOUR, "--debug"]) == 4
    err = capsys.readouterr().err
    assert err.startswith("Traceback ")
    assert "VideoError" in err


def test_a_question_from_stdin_with_the_answer_in_a_file_and_the_rest_on_a_terminal(clip, truth, tmp_path):
    with Terminal() as terminal, (tmp_path / "answer.txt").open("wb") as file:
        process = commands.start(
            "ask", str(clip), "-", "--model", "demo", stdin=subprocess.PIPE, stdout=file, stderr=terminal.file
        )
        process.communicate(f"\ufeff{COLOUR}\r\n".encode(), timeout=120)
    assert process.returncode == 0
    assert (tmp_path / "answer.txt").read_text() == truth[COLOUR] + "\n"
    screen = terminal.screen.splitlines()
    assert screen[0].startswith(f"ipcv: warning: {DEMO_NOTICE}"[:60])
    assert any(row.startswith("demo on cpu, float32: 8 frames of 140 × 140") for row in screen)
    assert not any(noise in terminal.screen for noise in ("Loading weights", "Traceback", "Warning"))
    assert b"loading demo" in terminal.received
    assert terminal.cursor_is_visible


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (io.TextIOWrapper(io.BytesIO(b" \n")), "the question is empty"),
        (io.TextIOWrapper(io.BytesIO(b"What\xff?")), r"the question is not text in UTF-8: 'What\udcff?'"),
        (None, "the question was to come from stdin, which is closed"),
    ],
)
def test_a_question_that_cannot_be_read_from_stdin_is_code_2(stdin, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["ask", "clip.mp4", "-"]) == 2
    assert capsys.readouterr() == ("", f"ipcv: error: {message} (see `ipcv ask --help`)\n")


def test_bytes_that_are_no_characters_are_code_2(capsys):
    assert main(["ask", "clip.mp4", "What\udcff?"]) == 2
    assert "the question is not text in UTF-8" in capsys.readouterr().err
    assert main(["ask", "clip.mp4", "What?", "--system", "\udcff"]) == 2
    assert "--system is not text in UTF-8" in capsys.readouterr().err


def test_an_interrupt_ends_a_long_answer_with_one_word_and_130(clip, talker):
    process = commands.start(*endless(clip, talker, "--json-stream"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert any(b'"event": "token"' in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"ipcv: interrupted\n"


def test_a_closed_pipe_ends_a_long_answer_quietly(clip, talker):
    process = commands.start(*endless(clip, talker), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""


def closed_pipe() -> IO[str]:
    """The end to write to of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_an_answer_does_not_depend_on_stderr(stderr, clip, truth):
    with Path("/dev/full").open("w") if stderr == "full" else closed_pipe() as nowhere:
        process = commands.start("ask", str(clip), COLOUR, "-m", "demo", "-v", stdout=subprocess.PIPE, stderr=nowhere)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.decode()) == (0, truth[COLOUR] + "\n")


def test_being_asked_to_end_leaves_the_terminal_tidy(clip, talker):
    with Terminal() as terminal:
        arguments = endless(clip, talker, "--json-stream")
        process = commands.start(*arguments, stdout=subprocess.PIPE, stderr=terminal.file)
        assert any(b'"event": "token"' in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert terminal.screen == ""
    assert b"\x1b[?25l" in terminal.received
    assert terminal.cursor_is_visible


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "{}", COLOUR, "--model", "demo"],
        ["caption", "{}", "--model", "demo"],
        ["bench", "--model", "demo"],
        ["frames", "{}", "-o", "sheet.png"],
    ],
)
def test_without_stdout_there_is_no_answer_and_no_success(words, clip, tmp_path):
    words = [word.format(clip) for word in words]
    run = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "ipcv_cli", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout, [*tmp_path.glob("*.png")]) == (1, "", [])
    assert run.stderr == "ipcv: error: standard output: it is closed; name another place, or make this one usable\n"


def test_a_folder_is_told_about_caption(tmp_path, capsys):
    assert main(["ask", str(tmp_path), COLOUR, "--model", "demo"]) == 4
    said = f"{tmp_path} is a folder, not a video: give one file, or caption all with ipcv caption"
    assert capsys.readouterr().err == f"ipcv: error: {said}\n"


def test_an_address_in_place_of_the_question_is_told(clip, capsys):
    assert main(["ask", str(clip), "https://host/a.mp4"]) == 2
    assert "'https://host/a.mp4' is an address: add what to ask about it" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(clip):
    """A server of the clip, and of a picture of it."""
    with av.open(str(clip)) as container:
        next(container.decode(video=0)).to_image().save(clip.parent / "frame.png")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(clip.parent))

        def do_HEAD(self):
            self.send_error(405)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_url_is_asked_about_as_the_file_is_and_no_copy_stays(address, clip, truth, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = ["ask", f"{address}/{clip.name}?token=1", f"{address}/frame.png", str(clip), COLOUR, "--model", "demo"]
    assert main([*words, "--json", "--max-frames", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["video"]["path"] for each in found["videos"]] == words[1:4]
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    cache = ["--cache", str(tmp_path / "cache")]
    for _ in range(2):
        assert main(["ask", words[1], COLOUR, "--model", "demo", *cache]) == 0
        assert capsys.readouterr().out == truth[COLOUR] + "\n"


def test_the_library_takes_urls_too(address, clip, demo, truth):
    answer = demo.ask(f"{address}/{clip.name}", COLOUR)
    assert (answer.answer, answer.video.path) == (truth[COLOUR], f"{address}/{clip.name}")


@pytest.mark.parametrize(
    ("path", "options", "says"),
    [
        ("none.mp4", [], "/none.mp4 cannot be fetched: the server answers 404 File not found; it does not exist"),
        ("scene.mp4", ["--max-download", "1kB"], "/scene.mp4 is larger than 1,000 bytes: raise --max-download"),
        ("", [], "/ is a web page, not a video: give the address of the video file itself"),
    ],
)
def test_a_url_without_a_video_is_named_in_one_line(path, options, says, address, capsys):
    assert main(["ask", f"{address}/{path}", COLOUR, "--model", "demo", *options]) == 4
    err = capsys.readouterr().err
    assert err.startswith(f"ipcv: error: {address}{says}")
    assert err.count("\n") == 1
