"""The list of models that can be asked: the published ones, and those in the hub's cache on this machine."""

from dataclasses import dataclass

from ipcv.models.checkpoints import DEMO_CHECKPOINT, DEMO_FAMILY, DEMO_TESTED_WITH, KNOWN, Checkpoint
from ipcv.models.hub_cache import CachedModel, cache_folder, cached_models

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Copy:
    """The copy of a repository in the hub's cache."""

    size: int  # bytes on the disk, of all revisions and of downloads that broke off
    path: str | None  # folder that is loaded unless a revision is asked for; None: not all of it is here
    lacks: str | None  # the reason why `path` is None
    revisions: tuple[str, ...]  # complete ones: branches and tags, and commits without either


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A model that can be asked. Its numbers are None if it is not in `ipcv.models.checkpoints`."""

    name: str
    family: str  # `model_type` of its configuration
    bundled: bool
    tested_with: str  # the weights of its family that the tests run; its own if it is bundled
    parameters: int | None
    bytes_16bit: int | None  # memory of the weights alone, at 16 bits
    bytes_4bit: int | None  # with quant="4bit": linear layers of the language model at 4 bits, the rest at 16
    cached: Copy | None


@dataclass(frozen=True, kw_only=True)
class ListedFamily:
    """A family of models."""

    family: str
    title: str
    tested_with: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Families and models, as `ipcv models --json` prints them."""

    schema_version: int = SCHEMA_VERSION
    families: tuple[ListedFamily, ...]
    models: tuple[ListedModel, ...]  # family by family
    cache: str  # folder of the hub's cache
    others: int  # repositories in the cache that are of no known family
    others_size: int  # their bytes


def list_models() -> Listing:
    """List the published models and those in the hub's cache. No network call."""
    here = {model.name: model for model in cached_models()}
    models = [_listed(DEMO_CHECKPOINT, DEMO_FAMILY, DEMO_TESTED_WITH, None, bundled=True)]
    for family, known in KNOWN.items():
        published = {checkpoint.name: checkpoint for checkpoint in known.checkpoints}
        more = [name for name, copy in here.items() if copy.family == family and name not in published]
        for name in (*published, *more):
            checkpoint = published.get(name)
            models.append(_listed(checkpoint or name, family, known.tested_with, here.pop(name, None)))
    return Listing(
        families=tuple(
            ListedFamily(family=family, title=known.title, tested_with=known.tested_with)
            for family, known in KNOWN.items()
        ),
        models=tuple(models),
        cache=str(cache_folder()),
        others=len(here),
        others_size=sum(model.size for model in here.values()),
    )


def _listed(
    model: Checkpoint | str, family: str, tested_with: str, copy: CachedModel | None, *, bundled: bool = False
) -> ListedModel:
    known = model if isinstance(model, Checkpoint) else None
    return ListedModel(
        name=model.name if isinstance(model, Checkpoint) else model,
        family=family,
        bundled=bundled,
        tested_with=tested_with,
        parameters=known.parameters if known else None,
        bytes_16bit=known.bytes_16bit if known else None,
        bytes_4bit=known.bytes_4bit if known else None,
        cached=_copy(copy) if copy else None,
    )


def _copy(model: CachedModel) -> Copy:
    path = str(model.path) if model.path else None
    return Copy(size=model.size, path=path, lacks=model.lacks, revisions=model.revisions)
