"""Read the settings to compare from a line of text: `dense,paper@0.2,paper+dart:layer=2,evs@0.3,frames@0.5`."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from ipcv.compression import registry
from ipcv.compression.compressors.presets import PRESETS
from ipcv.options import Options

ClipVariant = Literal["frames", "file", "grey", "other"]

PLACES = (  # what each part of a setting changes: no two parts may change the same
    {"dense": "compressor"}
    | {method: registry.place_of(method) for method in registry.METHODS}
    | dict.fromkeys(PRESETS, "compressor")
    | {"frames": "frames", "pixels": "pixels", "file": "clip", "grey": "clip", "other": "clip"}
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to answer the questions: options, and how clips are shown."""

    name: str  # as it was written
    options: Options
    frames: float = 1.0  # share of each clip's frames, evenly chosen
    pixels: float = 1.0  # share of each frame's pixels
    shown: ClipVariant = "frames"  # the clip in memory, as an mp4 file, as grey frames, or another scene's clip

    @property
    def is_default(self) -> bool:
        """Whether a clip that is asked about without options is shown and answered like this."""
        return self == Setting(name=self.name, options=Options())


def parse_settings(text: str) -> tuple[Setting, ...]:
    """The settings in `text`, with commas between them. Raises `ValueError` for what makes no sense.

    A setting is `dense`, or parts joined by `+`: at most one compressor, reducer and pruner by its registered name, or
    that of a preset;
    `frames` and `pixels` (fewer of them); `file` (through an mp4 file), `grey` or `other` (a grey clip, or that of
    another question). `@0.35` after a part is the share that it keeps, `:layer=4` sets any other setting of the method;
    several values of one setting have slashes between them, as in `v2drop@0.5/0.3:layers=2/4`.

    >>> [setting.name for setting in parse_settings("dense,paper@0.2:stabilize=3+dart")]
    ['dense', 'paper@0.2:stabilize=3+dart']
    """
    settings: dict[str, Setting] = {}
    for name in map(str.strip, text.split(",")):
        if name in settings:
            raise ValueError(f"the setting {name!r} is there twice")
        settings[name] = _parse(name)
    return tuple(settings.values())


def _parse(name: str) -> Setting:
    setting = Setting(name=name, options=Options(compressor=None, pruner=None))
    taken: set[str] = set()
    parts = sorted(name.split("+"), key=lambda part: PLACES.get(_read_part(part, name)[0]) == "reducer")
    for part in parts:  # a reducer comes last: it may need what the compressor does
        method, values = _read_part(part, name)
        if method not in PLACES:
            raise ValueError(_unknown(method, PLACES, "" if method == name else f" in the setting {name!r}"))
        if PLACES[method] in taken or (method == "dense" and "+" in name):
            raise ValueError(f"the setting {name!r} has two parts that exclude each other: leave one out")
        taken.add(PLACES[method])
        try:
            setting = _with_part(setting, method, values)
        except ValueError as error:
            raise ValueError(f"{method} in the setting {name!r}: {error}") from None
    if setting.shown == "file" and setting.frames < 1:
        raise ValueError(f"file and frames in the setting {name!r}: a file is read as a whole; leave one out")
    return setting


def _read_part(part: str, name: str) -> tuple[str, dict[str, str]]:
    """Split a part into its method and the settings that it gives, by name; the share is called `keep`."""
    head, *assignments = part.split(":")
    method, found, share = head.partition("@")
    values = {"keep": share} if found else {}
    for text in assignments:
        key, found, value = text.partition("=")
        if not found or key in values:
            raise ValueError(f"{text!r} in the setting {name!r} must be a field, once, and its value, as in layer=4")
        values[key] = value
    return method, values


def _with_part(setting: Setting, method: str, values: dict[str, str]) -> Setting:
    if method in PRESETS or method in registry.METHODS:
        changed: dict[str, Any] = {PLACES[method]: _build(method, values)}
        return replace(setting, options=replace(setting.options, **changed))
    if method in ("frames", "pixels"):
        if set(values) != {"keep"}:
            raise ValueError(f"it takes a share and no more, as in {method}@0.5")
        share = _read(values["keep"], float)
        if not 0 < share <= 1:
            raise ValueError(f"{share} must be more than 0 and at most 1")
        return replace(setting, frames=share) if method == "frames" else replace(setting, pixels=share)
    if values:
        raise ValueError("it takes no share and no fields")
    return setting if method == "dense" else replace(setting, shown=cast(ClipVariant, method))


def _build(method: str, values: dict[str, str]) -> Any:
    """The method or preset of this name with the settings in `values`, each read as its type."""
    preset = method in PRESETS
    kinds = registry.settings_of("coverage" if preset else method)
    unknown = [key for key in values if key not in kinds]
    if unknown:
        raise ValueError(_unknown(unknown[0], kinds))
    make = partial(registry.preset_of, method) if preset else registry.maker(method)
    return make(**{key: _read(value, kinds[key]) for key, value in values.items()})


def _unknown(word: str, known: Iterable[str], where: str = "") -> str:
    """A complaint about a word that is not among those `known`, with the one that is most like it."""
    names = list(known)
    guess = "".join(f" (did you mean {name!r}?)" for name in get_close_matches(word, names, n=1))
    return f"{word!r}{where} is not known{guess}; known: {', '.join(names)}"


def _read(text: str, kind: Any) -> Any:
    """Read `text` as the type `kind`: a number, a word, several of these, or the first type of a union that fits."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        *others, last = (each for each in inner if each is not NoneType)
        for each in others:
            with suppress(ValueError):
                return _read(text, each)
        return _read(text, last)
    if get_origin(kind) is tuple:
        return tuple(_read(part, inner[0]) for part in text.split("/"))
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
