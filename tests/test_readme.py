"""The README says what is so: its commands, its code, its JSON and its reference are checked against the real thing."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ipcv_cli.main import app
from ipcv_cli.reference import commands as names
from ipcv_cli.reference import reference

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "examples"))
import benchmark  # noqa: E402
import fidelity  # noqa: E402
import fidelity_clips  # noqa: E402
import fidelity_report  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUESTION = "What colour is the circle?"


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every `ipcv` command line of the README, in words, without what it is piped into."""
    lines = [part for block in blocks("sh") for line in block.splitlines() for part in re.split(r"\||&&", line)]
    words = [shlex.split(line) for line in lines if line.strip().startswith("ipcv ")]
    return [word[1:] for word in words]


def test_the_reference_is_what_help_prints():
    assert README.endswith(f"## Every command and option\n\n{reference().rstrip()}\n")


def test_the_python_code_is_the_quickstart():
    script = (ROOT / "examples/quickstart.py").read_text(encoding="utf-8")
    assert blocks("python")[0].strip() == script.split('"""')[2].strip()


def test_the_quickstart_runs_as_it_stands():
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pink\n")
    assert "same_answer=" in done.stdout


def test_there_are_many_commands():
    assert len(commands()) >= 8


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_in_it_has_only_options_that_exist(words):
    command = max((name for name in names() if words[: len(name)] == [*name]), key=len)
    text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout
    assert all(re.search(rf"{option}\b", text) for option in words if option.startswith("--"))


def test_the_json_is_that_of_a_real_answer():
    shown = json.loads(blocks("json")[0])
    command = ["ask", str(ROOT / "examples/clip.mp4"), QUESTION, "--model", "demo", "--json"]
    real = json.loads(CliRunner().invoke(app, command).stdout)
    savings = shown.pop("savings")
    assert savings.pop("baseline") is real["savings"].pop("baseline") is None
    assert shown == {key: real[key] for key in ("answer", "finish_reason")}
    assert savings == pytest.approx(real["savings"], rel=0.01)


def test_the_benchmark_is_that_of_the_stored_report():
    stored = json.loads(benchmark.JSON.read_text(encoding="utf-8"))
    shown = README.partition(benchmark.MARKS[0])[2].partition(benchmark.MARKS[1])[0]
    assert shown.strip() == benchmark.table(stored).strip()
    assert [report["model"]["name"] for report in stored["reports"]] == ["demo", "demo"]


def test_the_fidelity_is_that_of_the_stored_measurement():
    stored = json.loads(fidelity.JSON.read_text(encoding="utf-8"))
    shown = README.partition(fidelity.MARKS[0])[2].partition(fidelity.MARKS[1])[0]
    assert shown.strip() == fidelity_report.table(stored).strip()
    assert stored["onnx_difference"] <= fidelity_clips.TOLERANCE
    assert (stored["command"], len(stored["rows"])) == ("python examples/fidelity.py", 35)


def test_every_picture_is_there():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 3
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_every_file_it_names_exists_and_every_module_is_named():
    table = README[README.index("| file | subject |") : README.index("## Numbers")]
    named = re.findall(r"`([\w/]+\.py)`", table)
    modules = {path.name for path in (ROOT / "ipcv").glob("*.py")} - {"__init__.py", "errors.py"}
    assert modules <= {Path(name).name for name in named}
    for name in named:
        assert any((ROOT / folder / name).exists() for folder in ("", "ipcv", "examples")), name


def test_the_commands_to_install_are_the_two_promised():
    install = [line for line in README.splitlines() if line.startswith("pip install")]
    assert install == [
        f'pip install -c constraints.txt . && ipcv ask examples/clip.mp4 "{QUESTION}" --model demo',
        "pip install -c constraints.txt '.[test]' && pytest",
    ]
