"""Describe every method: its settings, what it needs, where it departs from its paper, on which families it runs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from transformers import CONFIG_MAPPING

from ipcv.architecture.shapes import NEEDS, TextShape, VisionShape
from ipcv.compression import registry
from ipcv.compression.compressors.compressor import Compressor
from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.method import Method, Place
from ipcv.compression.pruners.pruner import Pruner
from ipcv.errors import ModelError
from ipcv.families import FAMILIES, check_needs

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ListedMethod:
    """A method by one of its names."""

    name: str  # on the command line and in `ipcv bench`
    place: Place  # in the encoder, between encoder and language model, or in the language model
    default: bool  # whether it is used where no other was asked for
    method: str  # in Python, below `ipcv`: the class, or its classmethod for a variant
    summary: str
    arxiv: str  # number of its paper; empty: it has none
    needs: tuple[str, ...]  # that not every model offers
    departures: str  # where it differs from its paper; empty: nowhere that is known
    settings: dict[str, Any]  # all of them, as they are unless others are asked for
    presets: dict[str, dict[str, Any]]  # by name, the settings in which each preset differs from these
    families: tuple[str, ...]  # on which it runs with these settings, in a model of the family's usual sizes
    refused: dict[str, str]  # the other families, and why


@dataclass(frozen=True, kw_only=True)
class MethodListing:
    """All methods that were asked for, as `ipcv methods --json` prints them."""

    schema_version: int = SCHEMA_VERSION
    methods: tuple[ListedMethod, ...]


def list_methods(names: Sequence[str] = ()) -> MethodListing:
    """The methods called `names`, or all of them. No model is loaded."""
    shapes = dict(_usual_shapes())
    return MethodListing(methods=tuple(_listed(name, shapes) for name in names or registry.METHODS))


def _usual_shapes() -> Iterator[tuple[str, tuple[VisionShape, TextShape]]]:
    """For each family that answers questions, the shapes in its default configuration."""
    for family, known in FAMILIES.items():
        if known.language:
            config = CONFIG_MAPPING[family]()
            yield family, (known.language.vision(config), known.language.decoder(config.get_text_config()))


def _listed(name: str, shapes: dict[str, tuple[VisionShape, TextShape]]) -> ListedMethod:
    make = registry.maker(name)
    method: Method = make()
    problems = {family: _problem(method, family, *both) for family, both in shapes.items()}
    settings = asdict(cast(Any, method))
    return ListedMethod(
        name=name,
        place=method.place,
        default=registry.DEFAULTS[method.place] == name,
        method=make.__qualname__,
        summary=(make.__doc__ or "").partition("\n")[0],
        arxiv=method.arxiv,
        needs=tuple(NEEDS[need] for need in sorted(method.needs)),
        departures=registry.departures_of(name),
        settings={each: settings[each] for each in registry.settings_of(name)},
        presets={each: dict(changes) for each, changes in PRESETS.items()} if name == "coverage" else {},
        families=tuple(family for family, problem in problems.items() if problem is None),
        refused={family: problem for family, problem in problems.items() if problem is not None},
    )


def _problem(method: Method, family: str, vision: VisionShape, text: TextShape) -> str | None:
    """Why a method does not run on models of a family; None: it does."""
    try:
        check_needs(type(method).__name__, method.needs, family)
        if isinstance(method, Compressor):
            method.check(vision)
        if isinstance(method, Pruner):
            method.check(text)
    except (ModelError, ValueError) as error:
        return str(error)
    return None
