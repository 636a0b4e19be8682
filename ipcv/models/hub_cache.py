"""The models in the Hugging Face hub's cache on this machine: list and remove them, as the hub library scans it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CachedRepoInfo, DeleteCacheStrategy, HFCacheInfo, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from ipcv.errors import ModelError
from ipcv.models.guard.folder import CONFIG
from ipcv.models.hub import DEMO, cached, lacking, model_type


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A repository in the cache."""

    name: str
    size: int  # bytes on the disk, including downloads that broke off
    family: str | None  # `model_type` of the configuration; None: there is no configuration
    path: Path | None  # folder that is loaded unless a revision is asked for; None: not all of it is here
    lacks: str | None  # the reason why `path` is None
    revisions: tuple[str, ...]  # complete ones: branches and tags, and commits without either


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A repository that is to be removed with all of its revisions."""

    name: str
    size: int  # bytes that this frees
    folder: Path
    strategy: DeleteCacheStrategy

    def execute(self) -> None:
        """Remove the repository. Raises `ModelError` if some of it stays."""
        self.strategy.execute()
        if self.folder.exists():  # the hub library has only logged why
            raise ModelError(f"not all of {self.name!r} can be removed from {self.folder}: remove that folder by hand")


def cache_folder() -> Path:
    """The folder of the hub's cache, whether it is there or not."""
    return Path(constants.HF_HUB_CACHE).expanduser().resolve()


def cached_names() -> list[str]:
    """The names of the repositories in the cache, whole or not."""
    return [repository.repo_id for repository in _repositories(_scan())]


def cached_models() -> list[CachedModel]:
    """The repositories in the cache by name, of whatever family."""
    scanned = _scan()
    return [_model(repository, scanned) for repository in _repositories(scanned)]


def plan_removal(names: Sequence[str]) -> list[Removal]:
    """The removal of each repository in `names`, all of which must be in the cache.

    Raises `ModelError` with the names in the cache if one is not there, `ValueError` for the bundled model.
    """
    scanned = _scan()
    repositories = {repository.repo_id: repository for repository in _repositories(scanned)}
    for name in names:
        if name == DEMO:
            raise ValueError(f"model {DEMO!r} is part of ipcv and cannot be removed")
        if name not in repositories:
            there = f"there are {', '.join(repositories)}" if repositories else "it holds no models"
            raise ModelError(f"model {name!r} is not in the cache {cache_folder()}; {there}")
    return [_removal(repositories[name], scanned) for name in dict.fromkeys(names)]


def _scan() -> HFCacheInfo:
    try:
        return scan_cache_dir(cache_folder())
    except CacheNotFound:
        return HFCacheInfo(size_on_disk=0, repos=frozenset(), incomplete_files=frozenset(), warnings=[])


def _repositories(scanned: HFCacheInfo) -> list[CachedRepoInfo]:
    return sorted((each for each in scanned.repos if each.repo_type == "model"), key=lambda each: each.repo_id)


def _removal(repository: CachedRepoInfo, scanned: HFCacheInfo) -> Removal:
    # on its own: a repository that was renamed on the hub has the same commits under another name
    alone = replace(scanned, repos=frozenset({repository}))
    strategy = alone.delete_revisions(*(revision.commit_hash for revision in repository.revisions))
    size = strategy.expected_freed_size + _unfinished(repository, scanned)
    return Removal(name=repository.repo_id, size=size, folder=repository.repo_path, strategy=strategy)


def _model(repository: CachedRepoInfo, scanned: HFCacheInfo) -> CachedModel:
    revisions = sorted(repository.revisions, key=lambda revision: revision.commit_hash)
    whole = [revision for revision in revisions if lacking(revision.snapshot_path) is None]
    families = [model_type(revision.snapshot_path / CONFIG) for revision in revisions]
    try:
        path, lacks = cached(repository.repo_id, None)
    except ModelError:  # the folder only looks like a repository: none can have this name
        path, lacks = None, None
    if path is None and whole:
        lacks = "only other revisions are there"
    elif path is None:
        lacks = next((lacking(revision.snapshot_path) for revision in revisions), "no file is there")
    return CachedModel(
        name=repository.repo_id,
        size=repository.size_on_disk + _unfinished(repository, scanned),
        family=next(filter(None, families), None),
        path=None if lacks else path,
        lacks=lacks,
        revisions=tuple(sorted(label for each in whole for label in each.refs or {each.commit_hash})),
    )


def _unfinished(repository: CachedRepoInfo, scanned: HFCacheInfo) -> int:
    """Bytes of downloads that broke off."""
    return sum(file.size_on_disk for file in scanned.incomplete_files if repository.repo_path in file.file_path.parents)
