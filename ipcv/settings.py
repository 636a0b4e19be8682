"""Settings to compare, from one line of text such as `dense,paper@0.2,paper+dart:layer=2,frames@0.5`."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ipcv.answer import Options
from ipcv.compressor import IPCV
from ipcv.llm import Dart, FastV

Shown = Literal["frames", "file", "grey", "other"]

ENCODER: dict[str, Callable[..., IPCV]] = {"coverage": IPCV, "paper": IPCV.paper}
LANGUAGE: dict[str, Callable[..., Dart | FastV]] = {"dart": Dart, "fastv": FastV}
PLACES = (  # what each part changes: there can be one each
    {"dense": "encoder"}
    | dict.fromkeys(ENCODER, "encoder")
    | dict.fromkeys(LANGUAGE, "language model")
    | {"frames": "frames", "pixels": "pixels", "file": "clip", "grey": "clip", "other": "clip"}
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to answer the benchmark's questions."""

    name: str  # as it was written
    options: Options
    frames: float = 1.0  # share of each clip's frames, evenly chosen
    pixels: float = 1.0  # share of each frame's pixels
    shown: Shown = "frames"  # the clip in memory, as an mp4 file, as grey frames, or another scene's clip


def parse_settings(text: str) -> tuple[Setting, ...]:
    """The settings in `text`, with commas between them. Raises `ValueError` for what makes no sense.

    A setting is `dense`, or parts joined by `+`: `coverage` (`IPCV()`), `paper` (`IPCV.paper()`), `dart`, `fastv`, `frames`
    and `pixels` (fewer of them), `file` (through an mp4 file), `grey` and `other` (a grey clip, or that of another
    question). `@0.35` after a part is the share that it keeps, `:layer=4` sets any other field of its class.

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
    for part in name.split("+"):
        method, values = _read_part(part, name)
        if method not in PLACES:
            raise ValueError(f"{method!r} in the setting {name!r} is not known; known: {', '.join(PLACES)}")
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
    """The method of a part and its fields, `keep` for the share."""
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
    if method in ENCODER:
        return replace(setting, options=replace(setting.options, compressor=_build(ENCODER[method], values)))
    if method in LANGUAGE:
        return replace(setting, options=replace(setting.options, pruner=_build(LANGUAGE[method], values)))
    if method in ("frames", "pixels"):
        if set(values) != {"keep"}:
            raise ValueError(f"it takes a share and no more, as in {method}@0.5")
        share = _read(values["keep"], float)
        if not 0 < share <= 1:
            raise ValueError(f"{share} must be more than 0 and at most 1")
        return replace(setting, frames=share) if method == "frames" else replace(setting, pixels=share)
    if values:
        raise ValueError("it takes no share and no fields")
    shown: dict[str, Shown] = {"file": "file", "grey": "grey", "other": "other"}
    return replace(setting, shown=shown.get(method, setting.shown))


def _build(method: Callable[..., Any], values: dict[str, str]) -> Any:
    """A compressor or pruner with the fields in `values`, each read as its default's type."""
    plain = method()
    kinds = {each.name: _reader(getattr(plain, each.name)) for each in fields(plain) if each.init}
    unknown = [key for key in values if key not in kinds]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not known; known: {', '.join(kinds)}")
    return method(**{key: _read(value, kinds[key]) for key, value in values.items()})


def _reader(default: Any) -> Callable[[str], Any]:
    """What reads a field's value: as its default's type, but a whole number also in place of a word."""
    return _word_or_number if isinstance(default, str) else type(default)


def _word_or_number(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _read(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
