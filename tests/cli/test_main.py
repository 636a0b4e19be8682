"""The command as a whole: help, version, usage errors, completion, and what it costs to ask for them."""

import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import commands
import pytest

from ipcv_cli.main import main
from ipcv_cli.reference import commands as names
from ipcv_cli.reference import help_text

CLIP = str(Path(__file__).parents[2] / "examples/clip.mp4")
HEAVY = {"torch", "transformers", "av", "numpy", "ipcv.inference"}
LIGHT = (
    ["--version"],
    ["--help"],
    ["ask", "--help"],
    ["models", "--help"],
    ["ask", "clip.mp4", "What?", "--quiet", "--verbose"],
)


@pytest.mark.parametrize("words", names(), ids=" ".join)
def test_every_command_has_help_with_an_example(words, capsys):
    assert main([*words, "--help"]) == 0
    assert f"Example: {' '.join(('ipcv', *words))}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_that_of_the_package(option, capsys):
    assert main([option]) == 0
    assert capsys.readouterr() == (f"ipcv {version('ipcv')}\n", "")


@pytest.mark.parametrize("command", [[], ["ask"], ["schema"], ["models"], ["models", "pull"]])
def test_help_has_a_short_form(command, capsys):
    assert main([*command, "--help"]) == 0
    long = capsys.readouterr()
    assert main([*command, "-h"]) == 0
    assert capsys.readouterr() == long
    assert "Usage: " + " ".join(["ipcv", *command]) in long.out


def test_without_a_command_there_is_help_and_the_code_of_a_usage_error(capsys):
    assert main(["--help"]) == 0
    help_text = capsys.readouterr().out
    assert main([]) == 2
    assert capsys.readouterr().out.strip() == help_text.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask"], "Missing argument 'QUESTION' (see `ipcv ask --help`)"),
        (["ask", "clip.mp4"], "Missing argument 'QUESTION' (see `ipcv ask --help`)"),
        (
            ["cache", "foo"],
            "Invalid value for 'action': 'foo' is not one of 'ls', 'rm', 'size' (see `ipcv cache --help`)",
        ),
        (["models", "pul"], "No such command 'pul'. Did you mean 'pull'? (see `ipcv models --help`)"),
        (["models", "pull"], "Missing argument 'REPO' (see `ipcv models pull --help`)"),
        (["models", "--jsn"], "No such option: --jsn (Possible options: --json) (see `ipcv models list --help`)"),
        (["aks"], "No such command 'aks'. Did you mean 'ask'? (see `ipcv --help`)"),
        (["ask", "clip.mp4", "What?", "--xyzzy"], "No such option: --xyzzy (see `ipcv ask --help`)"),
        (
            ["ask", "clip.mp4", "What?", "--json", "--json-stream"],
            "--json and --json-stream exclude each other: leave one of them out (see `ipcv ask --help`)",
        ),
        (
            ["ask", "clip.mp4", "What?", "-q", "-v"],
            "--quiet and --verbose exclude each other: leave one of them out (see `ipcv ask --help`)",
        ),
        (
            ["ask", "clip.mp4", "What?", "--no-compress", "--baseline"],
            "--no-compress and --baseline exclude each other: leave one of them out (see `ipcv ask --help`)",
        ),
        (
            ["ask", CLIP, "What?", "--no-compress", "--keep", "0.5"],
            "--no-compress and --keep exclude each other: leave one of them out (see `ipcv ask --help`)",
        ),
        (
            ["ask", CLIP, "What?", "--llm-pruner", "none", "--llm-keep", "0.5"],
            "--llm-pruner none and --llm-keep exclude each other: leave one of them out (see `ipcv ask --help`)",
        ),
        (["ask", "clip.mp4", " \n"], "the question is empty (see `ipcv ask --help`)"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"ipcv: error: {message}\n")


@pytest.mark.parametrize(("option", "value"), [("--quant", "3bit"), ("--fps", "fast"), ("--llm-pruner", "best")])
def test_a_value_of_the_wrong_kind_is_a_usage_error(option, value, capsys):
    assert main(["ask", "clip.mp4", "What?", option, value]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ipcv: error: Invalid value for '{option}': ")
    assert err.count("\n") == 1


def test_the_entry_point_leaves_with_the_code():
    done = commands.ipcv("ask", "clip.mp4", "What?", "--json", "--json-stream")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("ipcv: error: --json and --json-stream exclude each other")


def test_help_version_and_usage_errors_import_nothing_heavy():
    code = f"import sys; from ipcv_cli.main import main; [main(words) for words in {LIGHT}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())
    assert f"ipcv {version('ipcv')}" in done.stdout
    assert "--llm-pruner" in done.stdout
    assert "--quiet and --verbose" in done.stderr


def cost(*command: str) -> float:
    """Seconds of processor time that a Python takes: other programs disturb it less than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_version_cost_less_than_0_4_seconds_over_an_empty_python():
    empty = cost("-c", "pass")
    for option in ("--help", "--version"):
        assert min(cost("-m", "ipcv_cli", option) for _ in range(2)) - empty <= 0.4


def test_the_shell_completes_models():
    done = commands.ipcv(_IPCV_COMPLETE="complete_bash", COMP_WORDS="ipcv ask --model d", COMP_CWORD="3")
    assert done.stdout.split() == ["demo"]


def test_the_help_on_a_page_is_the_same_whatever_the_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    text = help_text(("ask",))
    assert text.startswith("## `ipcv ask`\n")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) == 100
    for option in ("--keep", "--llm-pruner", "--json-stream", "--no-color"):
        assert f"│ {option} " in text
