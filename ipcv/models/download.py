"""Fetch a model from the Hugging Face hub as it is there now, after measuring how much that is."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import DryRunFileInfo, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import DryRunError
from huggingface_hub.utils.tqdm import tqdm

from ipcv.errors import ModelError
from ipcv.models.checkpoints import KNOWN
from ipcv.models.guard.folder import CONFIG, FILES
from ipcv.models.hub import check_online, fetch, hub_errors, model_type
from ipcv.models.hub_cache import cache_folder


@dataclass(frozen=True, kw_only=True)
class Download:
    """The files of a repository that `ipcv` loads: how large they are, and how much of that is missing here."""

    name: str  # of the repository
    revision: str | None  # as asked for: a branch, tag or commit; None: the main branch
    commit: str  # that this is on the hub now
    size: int  # bytes of all files
    missing: int  # bytes of those that are not in the cache

    def fetch(self, progress: Callable[[int], None] = lambda _: None) -> Path:
        """Fetch the files that are missing, and return their folder. Errors as of `plan`.

        An older copy of the branch stays in use until all of the new one is there. Files that came before a fetch
        broke off are kept and not fetched again. `progress` gets the bytes that have come so far, from any thread.
        """
        refused = partial(_refused, self.name)
        fetch(self.name, self.commit, refused, _counting(progress))
        return fetch(self.name, self.revision, refused, _counting(lambda _: None))  # points the branch to the commit


def plan(name: str, *, revision: str | None = None) -> Download:
    """Ask the hub for the files of a repository at `revision`: a branch, tag or commit, by default the main branch.

    Raises `ModelError` if the hub or the repository cannot be reached, if the model is of a family that is not
    supported, or if there is no room for it.
    """
    refused = partial(_refused, name)
    check_online(refused, "the hub must be asked")
    with hub_errors(refused, revision):
        commit = HfApi().model_info(name, revision=revision).sha or ""
        files = _files(name, commit)
        family = _family(name, commit) if any(file.filename == CONFIG for file in files) else None
    if family not in KNOWN:
        what = f"is of the family {family!r}" if family else f"has no {CONFIG} that names its family"
        raise refused(f"the repository {what}, which is not supported; supported: {', '.join(sorted(KNOWN))}")
    if not any(file.filename.endswith(".safetensors") for file in files):
        raise refused("the repository has no weights as .safetensors")
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    _check_room(refused, missing)
    size = sum(file.file_size or 0 for file in files)
    return Download(name=name, revision=revision, commit=commit, size=size, missing=missing)


def _files(name: str, commit: str) -> list[DryRunFileInfo]:
    try:
        return snapshot_download(
            name, revision=commit, allow_patterns=FILES, dry_run=True, tqdm_class=_counting(lambda _: None)
        )
    except DryRunError as error:  # it hides the reason
        raise error.__cause__ or error from error


def _family(name: str, commit: str) -> str | None:
    """The family that the repository's configuration names. Nothing stays in the cache: the rest may be of no use."""
    with TemporaryDirectory() as folder:
        path = hf_hub_download(name, CONFIG, revision=commit, local_dir=folder, tqdm_class=_counting(lambda _: None))
        return model_type(Path(path))


def _check_room(refused: Callable[[str], ModelError], missing: int) -> None:
    cache = cache_folder()
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if missing > free:
        raise refused(
            f"it takes {missing / 1e9:,.2f} GB and {free / 1e9:,.2f} GB are free in {cache}: make room (`ipcv models "
            "rm` frees some), or set HF_HOME to a folder that has more"
        )


def _refused(name: str, why: str) -> ModelError:
    return ModelError(f"cannot fetch {name!r}: {why}")


def _counting(progress: Callable[[int], None]) -> type[tqdm]:
    """A progress bar class for the hub library that draws nothing and gives `progress` the bytes so far."""

    class Counting(tqdm):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **(settings | {"disable": True}))
            self._come, self._is_of_bytes = 0, settings.get("unit") == "B"  # others count files

        def update(self, n: float | None = 1) -> bool | None:
            if self._is_of_bytes:
                self._come += int(n or 0)
                progress(self._come)
            return super().update(n)

    return Counting
