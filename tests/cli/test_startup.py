"""Keeping the libraries underneath quiet."""

import logging
import os
import warnings

import pytest
from hub_server import REPOSITORY, Hub

from ipcv.models.hub import download_size, find_folder
from ipcv.models.source import ModelSource
from ipcv_cli import startup

NAMES = ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(logging.getLogger("bitsandbytes"), "level", logging.NOTSET)


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
