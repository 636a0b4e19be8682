"""Keeping the libraries underneath quiet."""

import logging
import os
import subprocess
import sys
import warnings

import pytest
from hub_server import REPOSITORY, Hub

from ipcv.models.hub import download_size, find_folder
from ipcv.models.source import ModelSource
from ipcv_cli import startup

NAMES = ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE")
THREADS = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in (*NAMES, *THREADS):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name in ("bitsandbytes", "ipcv"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger("ipcv"), "handlers", [])


def settings() -> list[str | None]:
    return [os.environ.get(name) for name in NAMES]


def test_a_pipe_gets_no_bars():
    startup.prepare(offline=False, bars=False, debug=False)
    assert settings() == ["error", "error", "1", None]


def test_a_terminal_gets_bars():
    startup.prepare(offline=False, bars=True, debug=False)
    assert settings() == ["error", "error", None, None]


def test_offline_holds_for_the_hub_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    startup.prepare(offline=True, bars=True, debug=False)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")
    startup.prepare(offline=False, bars=False, debug=False)
    assert settings() == ["info", "error", "0", None]


@pytest.mark.parametrize("debug", [True, False])
def test_what_bitsandbytes_logs_is_for_debugging(debug, caplog):
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    startup.prepare(offline=False, bars=False, debug=debug)
    logger.warning("inputs will be cast")
    logger.error("no library")
    assert caplog.messages == ["inputs will be cast", "no library"][not debug :]


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(monkeypatch):
    startup.prepare(offline=False, bars=False, debug=False)
    assert [os.environ.get(name) for name in THREADS] == ["passive", "0", None, None]
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    startup.prepare(offline=False, bars=False, debug=False)
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_there_are_no_more_threads_than_a_quota_pays_for_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(startup, "usable_processors", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    startup.prepare(offline=False, bars=False, debug=False)
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.delenv("MKL_NUM_THREADS")
    startup.prepare(offline=False, bars=False, debug=False)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_torch_is_not_imported_before_threads_are_set():
    """OpenMP reads its settings once, as torch is imported."""
    code = (
        "import sys\nfrom ipcv_cli import startup\n"
        "startup.prepare = lambda **_: print('torch' in sys.modules) or sys.exit()\n"
        "from ipcv_cli.main import main\nmain(sys.argv[1:])"
    )
    for command in (["ask", __file__, "What?"], ["caption", "clips"], ["bench"]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
        assert (command, done.stdout) == (command, "False\n")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Hub(find_folder("demo")) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        yield hub


@pytest.mark.parametrize("quiet", [True, False])
def test_a_download_is_announced_with_its_size(quiet, hub, capsys):
    setting = {"no_color": True, "quiet": quiet}
    assert startup.announce_download(ModelSource(name=REPOSITORY), **setting)
    size = download_size(REPOSITORY) / 10**6
    assert capsys.readouterr() == (
        "",
        "" if quiet else f"ipcv: fetching: {REPOSITORY} from the Hugging Face hub, {size:.2f} MB\n",
    )
    assert not startup.announce_download(ModelSource(name="demo"), **setting)
    assert not startup.announce_download(ModelSource(name=REPOSITORY, offline=True), **setting)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("debug", [True, False])
def test_warnings_of_libraries_are_for_debugging(debug):
    with warnings.catch_warnings(record=True) as seen:
        startup.prepare(offline=False, bars=False, debug=debug)
        warnings.warn("deprecated", UserWarning, stacklevel=1)
    assert len(seen) == debug


MISTAKES = [
    ("missing.mp4", "What?"),
    (__file__, "What?", "-m", "/nowhere/model"),
    (__file__, "What?", "-m", "demo", "--max-pixels", "0"),
    (__file__, "What?", "-m", "demo", "--start", "soon"),
    (__file__, "What?", "-m", "demo", "--max-download", "much"),
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda arguments: arguments[-1])
def test_plain_mistakes_are_told_before_torch_is_imported(arguments):
    code = "import sys\nfrom ipcv_cli.main import main\nmain(['ask', *sys.argv[1:]])\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("ipcv: error: ")
    assert done.stdout == "False\n"
