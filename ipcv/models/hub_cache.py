"""The models in the Hugging Face hub's cache on this machine: which, how large, whether whole; and removing them."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import DeleteCacheStrategy, HFCacheInfo, constants, scan_cache_dir

from ipcv.architecture.internals import is_repository_name
from ipcv.errors import ModelError
from ipcv.models.hub import CONFIG, DEMO, cached, lacking, model_type

_PREFIX = "models--"


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A repository in the cache."""

    name: str
    folder: Path  # with all of its revisions
    size: int  # bytes on the disk, those of files that were not fetched to their end included
    family: str | None  # a configuration's `model_type`; None: there is no configuration
    path: Path | None  # what is loaded where no revision is asked for; None: not all of that is here
    lacks: str | None  # why
    revisions: tuple[str, ...]  # that are whole: branches and tags, and commits without either


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What removing a repository with all of its revisions amounts to."""

    name: str
    size: int  # bytes that it frees
    strategy: DeleteCacheStrategy

    def execute(self) -> None:
        """Remove it. Raises `PermissionError` if some of it stays."""
        self.strategy.execute()
        for folder in self.strategy.repos:
            if folder.exists():  # the hub library has only logged why
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def cache_folder() -> Path:
    """Where the hub's cache is, or would be."""
    return Path(constants.HF_HUB_CACHE).expanduser().resolve()


def repository_folder(name: str) -> Path:
    """Where a repository is in it, or would be."""
    return cache_folder() / (_PREFIX + name.replace("/", "--"))


def cached_names() -> list[str]:
    """The names of the repositories in the cache, whole or not."""
    return [_name(folder) for folder in _folders()]


def cached_models() -> list[CachedModel]:
    """The repositories in the cache by name, of whatever family."""
    return [_model(folder) for folder in _folders() if is_repository_name(_name(folder))]


def plan_removal(names: Sequence[str]) -> list[Removal]:
    """What there is to remove for repositories by `names`, all of which must be there.

    Raises `ModelError` naming what is in the cache if one is not, `ValueError` for the bundled model.
    """
    folders = {_name(folder): folder for folder in _folders()}
    for name in names:
        if name == DEMO:
            raise ValueError(f"model {DEMO!r} is part of ipcv and cannot be removed")
        if name not in folders:
            there = f"there are {', '.join(folders)}" if folders else "it holds no models"
            raise ModelError(f"model {name!r} is not in the cache {cache_folder()}; {there}")
    scanned = _scan()
    return [_removal(name, folders[name], scanned) for name in dict.fromkeys(names)]


def _removal(name: str, folder: Path, scanned: HFCacheInfo) -> Removal:
    unfinished = sum(file.size_on_disk for file in scanned.incomplete_files if folder in file.file_path.parents)
    for repository in scanned.repos:
        if repository.repo_path == folder and repository.revisions and not folder.is_symlink():
            # on its own: a repository that was renamed on the hub has the same commits under another name
            alone = replace(scanned, repos=frozenset({repository}))
            strategy = alone.delete_revisions(*(revision.commit_hash for revision in repository.revisions))
            return Removal(name=name, size=strategy.expected_freed_size + unfinished, strategy=strategy)
    size = 0 if folder.is_symlink() else _size(folder)  # of a link, what it leads to stays
    strategy = DeleteCacheStrategy(  # what an interruption leaves is no repository to the hub library
        expected_freed_size=size,
        blobs=frozenset(),
        refs=frozenset(),
        repos=frozenset({folder}),
        snapshots=frozenset(),
        cache_dir=scanned.cache_dir,
    )
    return Removal(name=name, size=size, strategy=strategy)


def _scan() -> HFCacheInfo:
    return scan_cache_dir(cache_folder())


def _folders() -> list[Path]:
    return sorted(folder for folder in cache_folder().glob(f"{_PREFIX}*") if folder.is_dir())


def _name(folder: Path) -> str:
    return folder.name.removeprefix(_PREFIX).replace("--", "/")


def _model(folder: Path) -> CachedModel:
    name = _name(folder)
    snapshots = sorted(folder.glob("snapshots/*"))
    families = [model_type(snapshot / CONFIG) for snapshot in snapshots]
    path, lacks = cached(name, None)
    whole = [snapshot.name for snapshot in snapshots if lacking(snapshot) is None]
    return CachedModel(
        name=name,
        folder=folder,
        size=_size(folder),
        family=next(filter(None, families), None),
        path=None if lacks else path,
        lacks=lacks or (None if path else _why_not(snapshots, whole)),
        revisions=tuple(sorted(label for commit in whole for label in _labels(folder, commit))),
    )


def _why_not(snapshots: Sequence[Path], whole: Sequence[str]) -> str:
    """Why no main branch is there."""
    if whole:
        return "only other revisions are there"
    return next(filter(None, map(lacking, snapshots)), "no file is there")


def _labels(folder: Path, commit: str) -> list[str]:
    """The branches and tags that a commit has here, or else the commit."""
    refs = folder / "refs"
    named = [
        file
        for file in refs.rglob("*")
        if file.is_file() and file.read_text(encoding="utf-8", errors="replace").strip() == commit
    ]
    return [file.relative_to(refs).as_posix() for file in named] or [commit]


def _size(folder: Path) -> int:
    """Bytes of all files: snapshots hold links to them, which count once."""
    return sum(file.stat().st_size for file in {path.resolve() for path in folder.rglob("*") if path.is_file()})
