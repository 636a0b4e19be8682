"""The base class of all compression methods. Imports no torch, so that options can name methods cheaply."""

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar, Literal

from ipcv.architecture.shapes import Need

Place = Literal["compressor", "reducer", "pruner"]  # where a method acts, called as the field of `Options` for it


class Method(ABC):
    """One way to save work. Every method is a frozen, keyword-only dataclass that holds its settings.

    Settings that make no sense raise `ValueError` at construction. JSON tells a method by one more field, which is no
    setting and repeats its `name`: `method: Literal["dart"] = field(default="dart", init=False)`. `IPCV` alone has
    none: its fields tell it.
    """

    name: ClassVar[str]  # in JSON, in cache keys and, but for variants, on the command line: never changed
    place: ClassVar[Place]
    arxiv: ClassVar[str]  # number of its paper; empty: it has none
    departures: ClassVar[str]  # where it differs from its paper, in one line; empty: nowhere that is known
    variants: ClassVar[Mapping[str, str]] = {}  # classmethods that `registry.py` names: where each differs instead
    needs: ClassVar[frozenset[Need]] = frozenset()  # that not every model family offers

    def _check_share(self, keep: float) -> None:
        """Raise `ValueError` unless `keep` is a share of tokens."""
        if not 0 < keep <= 1:
            raise ValueError(f"{type(self).__name__} keep={keep} must be more than 0 and at most 1")
