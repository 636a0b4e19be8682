"""The README says what is so: its commands, its code and its JSON are checked against the real thing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ipcv.models.catalog import list_models
from ipcv_cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUESTION = "What colour is the circle?"


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_it_is_read_in_one_go():
    assert len(README.splitlines()) <= 300


def test_the_python_code_is_the_quickstart():
    script = (ROOT / "examples/quickstart.py").read_text(encoding="utf-8")
    assert blocks("python")[0].strip() == script.split('"""')[2].strip()


def test_the_quickstart_runs_as_it_stands():
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    answer, share, described, compared = done.stdout.splitlines()
    assert (answer, share) == ("pink", "63% of the uncompressed encoder's FLOPs")
    assert re.search("pink circle", described)
    assert re.fullmatch(r"\d+\.\d\d times as fast as the plain model; the same answer: (True|False)", compared)


def test_captioning_from_python_does_what_the_command_does(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").symlink_to(clips)
    with pytest.warns(UserWarning, match="the demo model knows only its own little world"):
        exec(blocks("python")[1], {})  # noqa: S102 - the code under test is the README's
    printed = capsys.readouterr().out.splitlines()
    records = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert printed == [f"{record['id']} {record['answer']}" for record in records]
    assert len(records) == 4


def test_the_json_is_that_of_a_real_answer():
    shown = json.loads(blocks("json")[0])
    command = ["ask", str(ROOT / "examples/clip.mp4"), QUESTION, "--model", "demo", "--json"]
    real = json.loads(CliRunner().invoke(app, command).stdout)
    shares = {name: round(100 * share) for name, share in real["savings"].items() if name != "baseline"}
    assert shown == {"answer": real["answer"], "finish_reason": real["finish_reason"], "savings": shares}


def test_what_it_says_is_gained_on_the_demo_was_measured():
    stored = json.loads((ROOT / "examples/benchmark.json").read_text(encoding="utf-8"))
    scores = {score["name"]: score for score in stored["reports"][1]["scores"]}
    dense, default = scores["dense"], next(score for score in scores.values() if score["default"])
    for name in (default["name"], "coverage@0.1", "frames@0.7"):
        time, flops = (scores[name][what]["encode"] / dense[what]["encode"] for what in ("seconds", "flops"))
        assert f"| {time:.2f} | {flops:.2f} | {scores[name]['accuracy']:.1%}".replace("%", " %") in README
    ours, plain = (sum(score["seconds"].values()) for score in (default, dense))
    assert f"took {ours / plain:.0%} of its time for a question".replace("%", " %") in README
    assert f"takes {1000 * ours:.0f} ms in place of\n  {1000 * plain:.0f} ms" in README
    assert (
        f"{default['accuracy']:.1%} of the answers right in place of {dense['accuracy']:.1%}".replace("%", " %")
        in README
    )


def test_what_it_says_of_features_was_measured():
    rows = json.loads((ROOT / "examples/fidelity.json").read_text(encoding="utf-8"))["rows"]
    ours = [row for row in rows if row["rule"] == "coverage+distance" and row["settings"]["stabilize"] == "all"]
    for row in (ours[0], ours[2]):
        keep = f"{row['settings']['keep']:.3f}"
        line = next(line for line in README.splitlines() if f"| keep {keep} |" in line)
        assert f"| {row['cpu_time']:.2f} | {row['flops']:.2f} | features: mean cosine {row['patch_cosine']:.3f}" in line


def test_the_size_of_the_default_model_is_that_of_its_weights():
    name = "Qwen/Qwen2-VL-2B-Instruct"
    size = next(model.bytes_16bit for model in list_models().models if model.name == name)
    assert f"`{name}` is fetched on first use ({size / 1024**3:.1f} GiB)" in README


def test_the_commands_to_install_are_the_two_promised():
    install = [line for line in README.splitlines() if line.startswith("pip install")]
    assert install == [
        f'pip install -c constraints.txt . && ipcv ask examples/clip.mp4 "{QUESTION}" --model demo',
        "pip install -c constraints.txt '.[test]' && pytest",
    ]
