"""Names of models for the completion of a shell."""


def published(incomplete: str) -> list[str]:
    """The published models that can be asked."""
    from ipcv.models.checkpoints import KNOWN

    return _starting([each.name for family in KNOWN.values() for each in family.checkpoints], incomplete)


def cached(incomplete: str) -> list[str]:
    """The repositories in the hub's cache."""
    from ipcv.models.hub_cache import cached_names

    return _starting(cached_names(), incomplete)


def asked(incomplete: str) -> list[str]:
    """The names for --model: the bundled model, those in the cache, the published ones."""
    names = [*_starting(["demo"], incomplete), *cached(incomplete), *published(incomplete)]
    return list(dict.fromkeys(names))


def _starting(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
