"""Every method by its name. A method's class is imported when it is first asked for: most bring torch along."""

from collections.abc import Callable
from dataclasses import fields
from functools import reduce
from importlib import import_module
from typing import Any, cast, get_args

from ipcv.compression.method import Method, Place

METHODS = {  # name on the command line: module below this folder, and the class in it or the function that makes one
    "coverage": "compressors.ipcv_compressor:IPCV",
    "paper": "compressors.ipcv_compressor:IPCV.paper",
    "tome": "compressors.tome:ToMe",
    "evs": "reducers.evs:EVS",
    "vidcom2": "reducers.vidcom2:VidCom2",
    "dtd": "reducers.dtd:DTD",
    "reused": "reducers.reused:Reused",
    "dart": "pruners.dart:Dart",
    "fastv": "pruners.fastv:FastV",
    "v2drop": "pruners.v2drop:V2Drop",
}
CLASSES = {  # public names of the methods' classes, and their modules
    path.partition(":")[2].partition(".")[0]: f"compression.{path.partition(':')[0]}" for path in METHODS.values()
}
DEFAULTS: dict[Place, str | None] = {"compressor": "coverage", "reducer": None, "pruner": None}
PLACES: tuple[Place, ...] = get_args(Place)


def place_of(name: str) -> Place:
    """Where the method called `name` acts: each place has a folder of its own."""
    return next(place for place in PLACES if METHODS[name].startswith(f"{place}s."))


def names(place: Place) -> tuple[str, ...]:
    """The names of all methods of a place."""
    return tuple(name for name in METHODS if place_of(name) == place)


def method_class(name: str) -> type[Method]:
    """The class of the method called `name`; variants share one."""
    return _found(name, 1)


def classes(place: Place) -> tuple[type[Method], ...]:
    """The classes of all methods of a place, each once."""
    return tuple(dict.fromkeys(map(method_class, names(place))))


def maker(name: str) -> Callable[..., Any]:
    """The class or classmethod that makes the method called `name` from its settings."""
    return _found(name, None)


def departures_of(name: str) -> str:
    """Where the method called `name` differs from its paper; empty: nowhere that is known."""
    method, made_by = method_class(name), maker(name)
    return method.departures if made_by is method else method.variants[made_by.__name__]


def settings_of(name: str) -> dict[str, Any]:
    """The settings of the method called `name` and their types."""
    return {each.name: each.type for each in fields(cast(Any, method_class(name))) if each.init}


def default(place: Place) -> Any:
    """The method that is used at a place where none was asked for; None: nothing is done there."""
    name = DEFAULTS[place]
    return None if name is None else maker(name)()


def preset_of(name: str, **changes: Any) -> Any:
    """The method `coverage` with the settings called `name` in `compressors/presets.py`, but for `changes`."""
    return cast(Any, method_class("coverage")).preset(name, **changes)


def _found(name: str, depth: int | None) -> Any:
    """Import what `METHODS` has for a name: the first `depth` parts of its path in the module, or all."""
    module, _, path = METHODS[name].partition(":")
    return reduce(getattr, path.split(".")[:depth], import_module(f"ipcv.compression.{module}"))
