"""`ipcv models`: what it prints where, what it asks, and what it does to a real cache, with a hub on this machine."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time

import commands
import jsonschema
import pytest
from hub_server import COMMIT, REPOSITORY, Hub, redirect
from terminals import Terminal

from ipcv.models.hub import find_folder
from ipcv.models.hub_cache import cached_names
from ipcv_cli import completion
from ipcv_cli.confirm import confirm
from ipcv_cli.display.stdout import listing_schema
from ipcv_cli.main import main

TABLE = """\
                                             params    16 bit     4 bit  cached
Bundled, tested with trained weights
  demo                                       7.39 M  14.1 MiB  10.2 MiB
Qwen2-VL (qwen2_vl), tested with tiny random weights
  Qwen/Qwen2-VL-2B-Instruct                  2.21 B  4.11 GiB  2.30 GiB
  Qwen/Qwen2-VL-7B-Instruct                  8.29 B  15.4 GiB  6.42 GiB
  Qwen/Qwen2-VL-72B-Instruct                 73.4 B   137 GiB  39.7 GiB
  owner/model                                                            14.8 MB
  owner/part                                                             14.8 MB partial
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, whatever this process was told of another."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub(shutil.copytree(find_folder("demo"), tmp_path / "repository")) as hub:
        redirect(monkeypatch, hub.address)
        yield hub


@pytest.fixture
def folder(hub, cache, capsys):
    """Where the repository is in the cache."""
    assert main(["models", "pull", REPOSITORY, "--quiet"]) == 0
    capsys.readouterr()
    return cache / "models--owner--model" / "snapshots" / COMMIT


def start(hub, cache, *arguments, ask_above=None, **streams):
    """`ipcv` in a process of its own; `ask_above`: bytes that it asks about in place of its own limit."""
    limit = "" if ask_above is None else f"import ipcv_cli.commands.models as m; m.ASK_ABOVE = {ask_above}; "
    code = f"{limit}from ipcv_cli.main import run; run()"
    environment = commands.environment(HF_ENDPOINT=hub.address, HF_HUB_CACHE=str(cache))
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **streams)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -------------------------------------------------------------------------------------------------------- listing


@pytest.mark.parametrize("words", [["models"], ["models", "list"]])
def test_the_list_is_a_table_that_says_what_it_counts(words, folder, cache, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copytree(cache / "models--owner--model", cache / "models--owner--part", symlinks=True)
    (cache / "models--owner--part" / "snapshots" / COMMIT / "tokenizer_config.json").unlink()
    shutil.copytree(cache / "models--owner--model", cache / "models--owner--other", symlinks=True)
    config = cache / "models--owner--other" / "snapshots" / COMMIT / "config.json"
    config.unlink()
    config.write_text('{"model_type": "bert"}')
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(TABLE)
    assert "memory of the weights alone, computed. Frames, activations and\nthe key-value cache come on top." in out
    assert "No published\nweights were run." in out
    assert f"The cache is {cache}.\n" in out
    assert "\nIn it is also 1 repository, 14.83 MB, that ipcv cannot ask (`hf cache ls`).\n" in out
    assert max(map(len, out.replace(str(cache), "").splitlines())) <= 90


@pytest.mark.parametrize("width", [48, 60, 80])
def test_no_line_of_the_list_is_wider_than_the_terminal(width, folder, cache, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["models"]) == 0
    out = capsys.readouterr().out.replace(str(cache), "")
    assert max(map(len, out.splitlines())) <= width
    numbers = "2.21 B  4.11 GiB  2.30 GiB\n"
    separator = " " * 18 if width == 80 else "\n" + " " * 9
    assert f"\n  Qwen/Qwen2-VL-2B-Instruct{separator}{numbers}" in out


@pytest.mark.parametrize("words", [["models", "--json"], ["models", "list", "--json"]])
def test_json_is_one_object_that_fits_the_schema(words, folder, capsys):
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    jsonschema.validate(found, listing_schema(), jsonschema.Draft202012Validator)
    assert found["schema_version"] == 1
    here = {model["name"]: model["cached"] for model in found["models"] if model["cached"]}
    assert list(here) == [REPOSITORY]
    assert here[REPOSITORY]["path"] == str(folder)


def test_the_list_needs_neither_torch_nor_a_network(cache):
    code = "import sys; from ipcv_cli.main import main; main(['models']); print(*sys.modules)"
    environment = commands.environment(HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_CACHE=str(cache))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "Qwen/Qwen2-VL-2B-Instruct" in done.stdout
    assert not {"torch", "transformers", "numpy", "av"} & set(done.stdout.splitlines()[-1].split())


def test_names_in_the_cache_cannot_command_the_terminal(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "a\x1b[2Jb"))
    (tmp_path / "a\x1b[2Jb" / "models--owner--c\x1b[2Jd" / "snapshots").mkdir(parents=True)
    assert main(["models"]) == 0
    assert main(["models", "rm", "owner/x"]) == 5
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert r"a\x1b[2Jb." in out
    assert r"owner/c\x1b[2Jd" in err


# ------------------------------------------------------------------------------------------------------- fetching


def test_fetching_prints_the_folder_on_stdout_and_the_size_on_stderr(hub, cache, capsys):
    words = ["models", "pull", REPOSITORY]
    folder = cache / "models--owner--model" / "snapshots" / COMMIT
    assert main(words) == 0
    assert capsys.readouterr() == (f"{folder}\n", f"ipcv: fetching: owner/model, 14.83 MB, to {cache}\n")
    assert main(words) == 0
    assert capsys.readouterr() == (f"{folder}\n", "ipcv: present: owner/model is as the hub has it, 14.83 MB\n")
    (folder / "model.safetensors").resolve().unlink()
    assert main(words) == 0
    size = "14.80 MB, what is missing of 14.83 MB"
    assert capsys.readouterr() == (f"{folder}\n", f"ipcv: fetching: owner/model, {size}, to {cache}\n")
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == (f"{folder}\n", "")


def test_the_bundled_model_and_folders_need_no_fetching(capsys):
    assert main(["models", "pull", "demo"]) == 0
    place = find_folder("demo")
    assert capsys.readouterr() == (f"{place}\n", f"ipcv: present: demo is in {place}, there is nothing to fetch\n")


def test_much_is_not_fetched_without_asking_and_yes_is_the_answer(hub, monkeypatch, capsys):
    words = ["models", "pull", REPOSITORY]
    monkeypatch.setattr("ipcv_cli.commands.models.ASK_ABOVE", 10**7)
    assert main(words) == 2
    message = "fetch 14.83 MB? There is no terminal to answer on: give --yes if so (see `ipcv models pull --help`)"
    assert capsys.readouterr().err.endswith(f"ipcv: error: {message}\n")
    assert cached_names() == []
    assert main([*words, "--yes"]) == 0


def test_more_than_a_gigabyte_is_much(hub, capsys):
    hub.sizes = {"model.safetensors": 2 * 10**9}
    assert main(["models", "pull", REPOSITORY]) == 2
    assert "fetch 2.00 GB? There is no terminal" in capsys.readouterr().err


class Typed(io.StringIO):
    """What a person types at a terminal."""

    def isatty(self):
        return True


def test_what_is_not_agreed_to_is_not_done(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed("n\n"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["models", "rm", REPOSITORY]) == 1
    assert " remove owner/model and free 14.83 MB? [y/N] " in capsys.readouterr().err
    assert cached_names() == [REPOSITORY]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("y\n", True), (" YES\n", True), ("n\n", False), ("\n", False), ("yep\nn\n", False), ("", False), ("y", True)],
)
def test_only_yes_is_yes(typed, meant, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert confirm("remove a/\x1b[2Jb?") is meant
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(r"ipcv: question: remove a/\x1b[2Jb? [y/N] ")
    assert err.count("[y/N]") == 1 + typed.startswith("yep")


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("\x03", 130), ("\x04", 1)])
def test_a_person_is_asked(typed, code, hub, cache):
    with Terminal() as terminal:
        words = ["models", "pull", REPOSITORY]
        process = start(
            hub, cache, *words, ask_above=10**7, stdin=terminal.file, stdout=subprocess.PIPE, stderr=terminal.file,
            start_new_session=True, preexec_fn=terminal.control,
        )  # fmt: skip
        wait_for(lambda: b"[y/N]" in terminal.received)
        terminal.type(typed)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "ipcv: question: fetch 14.83 MB? [y/N]" in terminal.screen
    assert bool(cached_names()) == (code == 0)
    folder = cache / "models--owner--model" / "snapshots" / COMMIT
    assert out == (b"" if code else f"{folder}\n".encode())
    assert terminal.cursor_is_visible


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_fetching_at_once_and_the_next_pull_goes_on(number, code, hub, cache):
    hub.stalled = ("model.safetensors",)
    others = {file.name for file in hub.folder.iterdir()} - {"README.md", "model.safetensors"}
    folder = cache / "models--owner--model" / "snapshots" / COMMIT
    with Terminal() as terminal:
        process = start(hub, cache, "models", "pull", REPOSITORY, stdout=subprocess.PIPE, stderr=terminal.file)
        wait_for(lambda: "model.safetensors" in hub.sent and {file.name for file in folder.iterdir()} == others)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, b"")
    word = "ipcv: interrupted" if code == 130 else ""
    assert terminal.screen.replace("\n", "") == f"ipcv: fetching: owner/model, 14.83 MB, to {cache}{word}"
    assert terminal.cursor_is_visible
    hub.stalled = ()
    hub.sent.clear()
    assert main(["models", "pull", REPOSITORY]) == 0
    assert {*hub.sent} & others <= {"config.json"}  # which is read before anything is fetched
    assert main(["models", "rm", REPOSITORY, "--yes"]) == 0
    assert not [path for path in cache.glob("models--*/**/*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/other", "cannot fetch 'owner/other': there is no such repository, or it is private: `hf auth login`"),
        (
            "other",
            "no model folder 'other'; give a folder, a hub name such as Qwen/Qwen2-VL-2B-Instruct, or 'demo'",
        ),
        (
            "a b/c",
            "cannot fetch 'a b/c': Repo id must use alphanumeric chars, '-', '_' or '.'. The name cannot start or end "
            "with '-' or '.' and the maximum length is 96: 'a b/c'.",
        ),
    ],
)
def test_what_cannot_be_fetched_is_one_line_and_code_5(name, message, hub, capsys):
    assert main(["models", "pull", name]) == 5
    assert capsys.readouterr() == ("", f"ipcv: error: {message}\n")


def test_without_a_network_it_is_one_line_and_code_5(monkeypatch, capsys):
    redirect(monkeypatch, "http://127.0.0.1:9")
    assert main(["models", "pull", REPOSITORY]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ipcv: error: cannot fetch 'owner/model': fetching it failed (ConnectError: ")
    assert err.endswith("): check the connection\n")
    assert err.count("\n") == 1


def test_a_full_disk_is_one_line_and_code_5(hub, cache):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); "
    code = f"{full}from ipcv_cli.main import run; run()"
    environment = commands.environment(HF_ENDPOINT=hub.address, HF_HUB_CACHE=str(cache))
    words = [sys.executable, "-c", code, "models", "pull", REPOSITORY, "-q"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (5, "")
    message = f"no space is left in {cache}: make room (`ipcv models rm` frees some), or set HF_HOME to a folder"
    assert done.stderr == f"ipcv: error: cannot fetch 'owner/model': {message} that has more\n"


def test_debug_shows_where_an_error_came_from(hub, capsys):
    assert main(["models", "pull", "owner/other", "--debug"]) == 5
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert "RepositoryNotFoundError" in err


# -------------------------------------------------------------------------------------------------------- finding


def test_the_path_is_for_the_shell(folder, cache):
    line = f'cd "$({sys.executable} -m ipcv_cli models path {REPOSITORY})" && ls'
    done = subprocess.run(
        ["bash", "-c", line], env=commands.environment(HF_HUB_CACHE=str(cache)), capture_output=True, text=True
    )
    assert done.stdout.split() == sorted(file.name for file in folder.iterdir())


def test_what_is_not_all_here_has_no_path_and_code_5(folder, capsys):
    assert main(["models", "path", REPOSITORY]) == 0
    assert capsys.readouterr() == (f"{folder}\n", "")
    (folder / "model.safetensors").unlink()
    assert main(["models", "path", REPOSITORY]) == 5
    message = "is in the cache in part only (no model.safetensors): `ipcv models pull owner/model` fetches the rest"
    assert capsys.readouterr() == ("", f"ipcv: error: model 'owner/model' {message}\n")
    assert main(["models", "path", "owner/other"]) == 5
    message = "is not in the cache: `ipcv models pull owner/other` fetches it"
    assert capsys.readouterr() == ("", f"ipcv: error: model 'owner/other' {message}\n")


# ------------------------------------------------------------------------------------------------------- removing


def test_nothing_is_removed_without_asking_and_yes_is_the_answer(folder, capsys):
    assert main(["models", "rm", REPOSITORY]) == 2
    message = "remove owner/model and free 14.83 MB? There is no terminal to answer on: give --yes if so"
    assert capsys.readouterr() == ("", f"ipcv: error: {message} (see `ipcv models rm --help`)\n")
    assert cached_names() == [REPOSITORY]
    assert main(["models", "rm", REPOSITORY, "--yes"]) == 0
    assert capsys.readouterr() == ("", "ipcv: removed: owner/model, 14.83 MB\n")
    assert cached_names() == []


def test_a_wrong_name_is_an_error_that_names_the_right_ones_and_removes_none(folder, cache, capsys):
    assert main(["models", "rm", REPOSITORY, "owner/modle", "--yes"]) == 5
    message = f"model 'owner/modle' is not in the cache {cache}; there are owner/model"
    assert capsys.readouterr() == ("", f"ipcv: error: {message}\n")
    assert cached_names() == [REPOSITORY]


def test_the_bundled_model_stays(capsys):
    assert main(["models", "rm", "demo", "--yes"]) == 2
    assert capsys.readouterr() == ("", "ipcv: error: model 'demo' is part of ipcv and cannot be removed\n")
    assert (find_folder("demo") / "model.safetensors").is_file()


# ----------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("words", "completed"), [("ipcv models p", ["pull", "path"]), ("ipcv models rm o", [REPOSITORY])]
)
def test_the_shell_completes_commands_and_names(words, completed, folder, cache):
    count = str(len(words.split()) - 1)
    done = commands.ipcv(_IPCV_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count, HF_HUB_CACHE=str(cache))
    assert done.stdout.split() == completed


def test_names_are_those_of_published_models_and_of_the_cache(folder):
    assert completion.published("Qwen/Qwen2-VL-7") == ["Qwen/Qwen2-VL-7B-Instruct", "Qwen/Qwen2-VL-72B-Instruct"]
    assert completion.cached("") == [REPOSITORY]
    assert completion.asked("")[:3] == ["demo", REPOSITORY, "Qwen/Qwen2-VL-2B-Instruct"]
