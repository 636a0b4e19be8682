"""A model's name -> its local folder, fetched from the Hugging Face hub if need be."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ipcv.errors import ModelError, first_line

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
DEMO = "demo"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]  # what is fetched of a repository
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # environment variables


def find_folder(name: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The local folder of a model: bundled, a folder, or a hub repository.

    A repository whose files are all in the cache is taken from there without asking the hub, even if its branch has
    moved on since: `hf download NAME` updates it. Otherwise it is fetched.

    Raises `ModelError` if the model cannot be had, `ValueError` for a `revision` of what has none.
    """
    folder = _local(name, revision)
    if folder is None:
        folder, lacks = _cached(name, revision)
        if folder is None or lacks:
            _check_online(
                name, f"the cached copy is incomplete ({lacks})" if lacks else "it is not in the cache", offline
            )
            folder = _fetch(name, revision)
    return folder


def download_size(name: str, *, revision: str | None = None, offline: bool = False) -> int:
    """Bytes that `find_folder` would have to fetch, less what parts of them are there; 0 if it needs no network.

    Errors as in `find_folder`.
    """
    if offline or _offline_variable() or _local(name, revision):
        return 0
    folder, lacks = _cached(name, revision)
    if folder and not lacks:
        return 0
    with _hub_errors(name, revision):
        listed = HfApi().model_info(name, revision=revision, files_metadata=True).siblings or []
    wanted = [file for file in listed if any(fnmatch(file.rfilename, pattern) for pattern in _FILES)]
    return sum(file.size or 0 for file in wanted if not (folder and (folder / file.rfilename).is_file()))


def lacking(folder: Path) -> str | None:
    """What is not in `folder` though no model can do without it, if anything: "no config.json", say."""
    needed = ["config.json", "tokenizer_config.json", WEIGHTS]
    if (index := folder / INDEX).is_file():
        try:
            needed[-1:] = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            return f"no {INDEX} that can be read"
    return next((f"no {file}" for file in needed if not (folder / file).is_file()), None)


def _local(name: str, revision: str | None) -> Path | None:
    """The folder of what is no hub repository."""
    folder = Path(str(files("ipcv") / "demo")) if name == DEMO else Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            kind = "the bundled model" if name == DEMO else "a folder"
            raise ValueError(f"{name!r} is {kind} and has no revision {revision!r}: leave the revision out")
        return folder
    if name.startswith((".", "~", "/")) or name.count("/") != 1:
        raise ModelError(f"no model folder {name!r}; give a folder, a hub name such as {DEFAULT_MODEL}, or {DEMO!r}")
    return None


def _cached(name: str, revision: str | None) -> tuple[Path | None, str | None]:
    """The cached snapshot, and what it lacks."""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # the hub library knows a snapshot to be incomplete if it has the repository's list of files
        partial = getattr(error, "snapshot_path", None)
        return (Path(partial), lacking(Path(partial)) or "some files are missing") if partial else (None, None)
    except HFValidationError as error:
        raise _unavailable(name, first_line(error)) from error
    return folder, lacking(folder)


def _check_online(name: str, why: str, offline: bool) -> None:
    if offline:
        raise _unavailable(name, f"{why} and offline forbids fetching it: run `hf download {name}` while online")
    if variable := _offline_variable():
        raise _unavailable(name, f"{why} and {variable} in the environment forbids fetching it: unset it")


def _offline_variable() -> str | None:
    """The environment variable that keeps the hub library offline, if it does."""
    return next((each for each in _OFFLINE if os.environ.get(each)), _OFFLINE[0]) if constants.HF_HUB_OFFLINE else None


def _fetch(name: str, revision: str | None) -> Path:
    with _hub_errors(name, revision):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    if lacks := lacking(folder):  # without a connection, the hub library hands out what there is
        raise _unavailable(name, f"the cached copy is incomplete ({lacks}) and the hub did not send the rest")
    return folder


@contextmanager
def _hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the hub library and those beneath it raise into `ModelError`."""
    try:
        yield
    except GatedRepoError as error:
        why = "its authors ask for consent first: accept on its hub page, then `hf auth login`"
        raise _unavailable(name, why) from error
    except RevisionNotFoundError as error:
        raise _unavailable(name, f"the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        why = "there is no such repository, or it is private: `hf auth login`"
        raise _unavailable(name, why) from error
    except LocalEntryNotFoundError as error:
        raise _unavailable(name, "it is not in the cache and the hub cannot be reached") from error
    except OSError as error:  # no space, no permission
        raise _unavailable(name, first_line(error)) from error
    except Exception as error:  # HTTP and transfer libraries have classes of their own, which change
        why = f"fetching it failed ({type(error).__name__}: {first_line(error)}): check the connection"
        raise _unavailable(name, why) from error


def _unavailable(name: str, why: str) -> ModelError:
    folder = "" if name == DEFAULT_MODEL else " (nor is there a folder of that name)"
    demo = f'model "{DEMO}" is bundled and needs no network (--model {DEMO})'
    return ModelError(f"model {name!r} is not available: {why}{folder}; {demo}")
