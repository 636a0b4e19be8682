"""What a shell completes names of models with."""


def published(incomplete: str) -> list[str]:
    """Names of published models that can be asked."""
    from ipcv.models.checkpoints import KNOWN

    return _starting([each.name for family in KNOWN.values() for each in family.checkpoints], incomplete)


def cached(incomplete: str) -> list[str]:
    """Names of what is in the hub's cache."""
    from ipcv.models.hub_cache import cached_names

    return _starting(cached_names(), incomplete)


def asked(incomplete: str) -> list[str]:
    """Names for --model: the bundled one, what is in the cache, what was published."""
    names = [*_starting(["demo"], incomplete), *cached(incomplete), *published(incomplete)]
    return list(dict.fromkeys(names))


def _starting(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
