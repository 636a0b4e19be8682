"""Find the folder of a model by its name: bundled, local, in the hub's cache, or fetched from the hub."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from importlib.resources import files
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from ipcv.errors import ModelError, first_line, is_about_space
from ipcv.files import expanded
from ipcv.models.guard.folder import CONFIG, FILES, INDEX, PICKLES, read_json, weight_files

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
DEMO = "demo"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # environment variables

Refused = Callable[[str], ModelError]  # makes an error of the reason why a model cannot be had


def find_folder(name: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """The local folder of a model: bundled, a folder, or a hub repository.

    A repository whose files are all in the cache is taken from there without asking the hub, even if its branch has
    moved on since: `ipcv models pull NAME` updates it. Otherwise it is fetched.

    Raises `ModelError` if the model cannot be had, `ValueError` for a `revision` of what has none.
    """
    folder = local(name, revision)
    if folder is None:
        folder, lacks = cached(name, revision)
        if folder is None or lacks:
            why = f"the cached copy is incomplete ({lacks})" if lacks else "it is not in the cache"
            if offline:
                raise _unavailable(
                    name, f"{why} and offline forbids fetching it: run {_pull(name, revision)} while online"
                )
            check_online(partial(_unavailable, name), why)
            folder = fetch(name, revision, partial(_unavailable, name))
    return folder


def find_cached(name: str, *, revision: str | None = None) -> Path:
    """The local folder of a model, without a network call. Raises `ModelError` if not all of the model is here."""
    folder = local(name, revision)
    if folder is None:
        folder, lacks = cached(name, revision)
        if folder is None or lacks:
            is_here = f"is in the cache in part only ({lacks})" if lacks else "is not in the cache"
            raise ModelError(
                f"model {name!r} {is_here}: {_pull(name, revision)} fetches {'the rest' if lacks else 'it'}"
            )
    return folder


def download_size(name: str, *, revision: str | None = None, offline: bool = False) -> int:
    """Bytes of the files that `find_folder` would fetch; 0 if it needs no network.

    Errors as in `find_folder`.
    """
    if offline or _offline_variable() or local(name, revision):
        return 0
    folder, lacks = cached(name, revision)
    if folder and not lacks:
        return 0
    with hub_errors(partial(_unavailable, name), revision):
        listed = HfApi().model_info(name, revision=revision, files_metadata=True).siblings or []
    wanted = [file for file in listed if any(fnmatch(file.rfilename, pattern) for pattern in FILES)]
    return sum(file.size or 0 for file in wanted if not (folder and (folder / file.rfilename).is_file()))


def lacking(folder: Path) -> str | None:
    """The first file that a model needs and `folder` lacks, as in "no config.json"; None if all are there."""
    try:
        needed = [CONFIG, "tokenizer_config.json", *weight_files(folder)]
    except ModelError:
        return f"no {INDEX} that can be read"
    return next((f"no {file}" for file in needed if not (folder / file).is_file()), None)


def model_type(config: Path) -> str | None:
    """The family that a `config.json` names; None if it names none or cannot be read."""
    try:
        family = read_json(config).get("model_type")
    except ModelError:
        return None
    return family if isinstance(family, str) else None


def local(name: str, revision: str | None) -> Path | None:
    """The folder of the bundled model or of a local one; None for the name of a hub repository.

    Raises `ValueError` for the `revision` of a folder, `ModelError` for a name that can be neither.
    """
    folder = Path(str(files("ipcv") / "demo")) if name == DEMO else expanded(name)
    if folder.is_dir():
        if revision is not None:
            kind = "the bundled model" if name == DEMO else "a folder"
            raise ValueError(f"{name!r} is {kind} and has no revision {revision!r}: leave the revision out")
        return folder
    if name.startswith((".", "~", "/")) or name.count("/") != 1:
        raise ModelError(f"no model folder {name!r}; give a folder, a hub name such as {DEFAULT_MODEL}, or {DEMO!r}")
    return None


def cached(name: str, revision: str | None) -> tuple[Path | None, str | None]:
    """The snapshot in the hub's cache, if there is one, and why it is incomplete, if it is."""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=True))
    except IncompleteSnapshotError as error:  # by the repository's list of files, if that is in the cache
        folder = Path(error.snapshot_path)
        return folder, lacking(folder) or "some files are missing"
    except LocalEntryNotFoundError:
        return None, None
    except HFValidationError as error:
        raise _unavailable(name, first_line(error)) from error
    return folder, lacking(folder)


def check_online(refused: Refused, why: str) -> None:
    """Raise an error, with `why` the hub is needed, if the environment keeps the hub library offline."""
    if variable := _offline_variable():
        raise refused(f"{why} and {variable} in the environment forbids fetching it: unset it")


def _offline_variable() -> str | None:
    """The environment variable that keeps the hub library offline, if it does."""
    return next((each for each in _OFFLINE if os.environ.get(each)), _OFFLINE[0]) if constants.HF_HUB_OFFLINE else None


def fetch(name: str, revision: str | None, refused: Refused, bar: type[tqdm] | None = None) -> Path:
    """Fetch the files of a repository that are not in the cache, as the hub has them now, and return their folder.

    `bar` is the class of the progress bar; None: the hub library's own.
    """
    with hub_errors(refused, revision):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=FILES, tqdm_class=bar))
    if lacks := lacking(folder):  # without a connection, the hub library hands out what there is
        if pickle := _pickled(name, revision):
            raise refused(f"its weights are {pickle}, a pickle, which can run code: name one that has .safetensors")
        raise refused(f"the cached copy is incomplete ({lacks}) and the hub did not send the rest")
    return folder


def _pickled(name: str, revision: str | None) -> str | None:
    """The first pickle of a repository that has no other weights; None if it has some, or cannot be asked."""
    try:
        names = [file.rfilename for file in HfApi().model_info(name, revision=revision).siblings or []]
    except Exception:  # as in `hub_errors`: there is another error to tell
        return None
    if any(each.endswith(".safetensors") for each in names):
        return None
    return next((each for each in sorted(names) if each.endswith(PICKLES)), None)


@contextmanager
def hub_errors(refused: Refused, revision: str | None) -> Iterator[None]:
    """Whatever the hub library and the libraries beneath it raise becomes a `ModelError` with the reason."""
    try:
        yield
    except GatedRepoError as error:
        why = "its authors ask for consent first: accept on its hub page, then `hf auth login`"
        raise refused(why) from error
    except RevisionNotFoundError as error:
        raise refused(f"the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        why = "there is no such repository, or it is private: `hf auth login`"
        raise refused(why) from error
    except HFValidationError as error:
        raise refused(first_line(error)) from error
    except LocalEntryNotFoundError as error:
        raise refused("it is not in the cache and the hub cannot be reached") from error
    except HfHubHTTPError as error:
        raise refused(f"{first_line(error)}: try again later") from error
    except OSError as error:  # no space, no permission
        raise refused(_no_space() if is_about_space(error) else first_line(error)) from error
    except Exception as error:  # HTTP and transfer libraries have classes of their own, which change
        why = f"fetching it failed ({type(error).__name__}: {first_line(error)}): check the connection"
        raise refused(why) from error


def _no_space() -> str:
    return (
        f"no space is left in {constants.HF_HUB_CACHE}: make room (`ipcv models rm` frees some), or set HF_HOME to a "
        "folder that has more"
    )


def _pull(name: str, revision: str | None) -> str:
    return f"`ipcv models pull {name}{f' --revision {revision}' if revision else ''}`"


def _unavailable(name: str, why: str) -> ModelError:
    folder = "" if name == DEFAULT_MODEL else " (nor is there a folder of that name)"
    demo = f'model "{DEMO}" is bundled and needs no network (name="{DEMO}")'
    return ModelError(f"model {name!r} is not available: {why}{folder}; {demo}")
