"""Where models come from: the cache, a hub (a real one, on this machine), and what is said if neither has them."""

import json
import shutil
import socket
import threading

import pytest
from hub_server import COMMIT, REPOSITORY, Hub, redirect

from ipcv.errors import ModelError
from ipcv.models.hub import DEFAULT_MODEL, download_size, find_folder, lacking


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, used by hand."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path):
    """The files of a repository."""
    return shutil.copytree(find_folder("demo"), tmp_path / "repository")


@pytest.fixture
def hub(monkeypatch, files):
    """The hub there is."""
    with Hub(files) as hub:
        redirect(monkeypatch, hub.address)
        yield hub


@pytest.fixture
def cached(cache, files):
    """A snapshot as it lies in the cache, without the hub library's list of what belongs to it."""
    repository = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return shutil.copytree(files, repository / "snapshots" / COMMIT)


def test_a_repository_is_fetched_once_and_found_without_asking_again(hub, files):
    wanted = {file.name for file in files.iterdir()} - {"README.md"}
    assert download_size(REPOSITORY) == sum((files / name).stat().st_size for name in wanted)
    folder = find_folder(REPOSITORY)
    assert folder.name == COMMIT
    assert {file.name for file in folder.iterdir()} == wanted
    assert lacking(folder) is None
    hub.asked.clear()
    assert find_folder(REPOSITORY) == find_folder(REPOSITORY, revision="main") == folder
    assert find_folder(REPOSITORY, revision=COMMIT, offline=True) == folder
    assert download_size(REPOSITORY) == 0
    assert hub.asked == []


def test_a_complete_snapshot_needs_no_hub(hub, cached):
    assert find_folder(REPOSITORY) == cached
    assert hub.asked == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_a_snapshot_that_lacks_a_file_is_completed_or_refused_offline(name, hub, cached, files):
    (cached / name).unlink()
    with pytest.raises(
        ModelError, match=rf"cached copy is incomplete \(no {name}\) and offline .*ipcv models pull owner/model"
    ):
        find_folder(REPOSITORY, offline=True)
    assert hub.asked == []
    assert download_size(REPOSITORY) == (files / name).stat().st_size
    assert find_folder(REPOSITORY) == cached
    assert (cached / name).read_bytes() == (files / name).read_bytes()


def test_a_download_that_breaks_off_is_one_line_and_not_a_model(hub):
    hub.cut = ("model.safetensors",)
    with pytest.raises(ModelError, match="is not available: fetching it failed") as caught:
        find_folder(REPOSITORY)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cached copy is incomplete"):
        find_folder(REPOSITORY, offline=True)
    hub.cut = ()
    assert lacking(find_folder(REPOSITORY)) is None


def test_a_repository_that_stays_incomplete_is_refused(hub, files):
    (files / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"incomplete \(no model\.safetensors\) and the hub did not send the rest"):
        find_folder(REPOSITORY)


def test_every_file_that_the_index_names_is_needed(files):
    (files / "model.safetensors").rename(files / "model-1.safetensors")
    index = files / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    assert lacking(files) == "no model-2.safetensors"
    (files / "model-2.safetensors").touch()
    assert lacking(files) is None
    index.write_text('{"weight_map"')
    assert lacking(files) == "no model.safetensors.index.json that can be read"


@pytest.mark.parametrize(
    ("name", "revision", "why"),
    [
        ("models/qwen", None, r'no such repository.*nor is there a folder of that name.*name="demo"'),
        (REPOSITORY, "v9", r"no revision 'v9'"),
        ("owner/a--b", None, r"Cannot have -- or \.\. in repo_id"),
    ],
)
def test_what_the_hub_does_not_have_is_said(name, revision, why, hub):
    with pytest.raises(ModelError, match=why):
        find_folder(name, revision=revision)
    if revision or name == "models/qwen":
        with pytest.raises(ModelError, match=why):
            download_size(name, revision=revision)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_an_environment_that_forbids_fetching_is_named(variable, hub, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"not in the cache and {variable} in the environment forbids .*unset it"):
        find_folder(REPOSITORY)
    assert download_size(REPOSITORY) == 0
    assert hub.asked == []


@pytest.mark.parametrize("function", [find_folder, download_size])
def test_a_connection_that_is_hung_up_is_one_line(function, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        redirect(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ModelError, match=r"fetching it failed \(\w+: .*check the connection") as caught:
            function(DEFAULT_MODEL)
        server.shutdown(socket.SHUT_RDWR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["the bundled model", "a folder"])
def test_a_revision_of_what_has_none_is_refused(kind, files):
    name = "demo" if kind == "the bundled model" else str(files)
    with pytest.raises(ValueError, match=f"is {kind} and has no revision 'main': leave the revision out"):
        find_folder(name, revision="main")


def test_a_repository_of_pickles_is_refused_by_the_name_of_one(hub, files):
    (files / "model.safetensors").rename(files / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"its weights are pytorch_model\.bin, a pickle, .*name one that has"):
        find_folder(REPOSITORY)
