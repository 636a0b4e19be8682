"""Settings to compare, from one line of text such as `dense,paper@0.2,paper+dart:layer=2,frames@0.5`."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ipcv.answer import Options
from ipcv.compressor import IPCV
from ipcv.llm import Dart, FastV

Shown = Literal["frames", "file", "grey", "other"]

ENCODER: dict[str, Callable[..., IPCV]] = {"paper": IPCV}
LANGUAGE: dict[str, Callable[..., Dart | FastV]] = {"dart": Dart, "fastv": FastV}
KNOWN = ("dense", *ENCODER, *LANGUAGE, "frames", "pixels", "file", "grey", "other")


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

    A setting is `dense`, or parts joined by `+`: `paper` (IPCV with the paper's settings), `dart`, `fastv`, `frames`
    and `pixels` (fewer of them), `file` (through an mp4 file), `grey` and `other` (a grey clip, or that of another
    question). `@0.35` after a part is the share that it keeps, `:layer=4` sets any other field of its class.

    >>> [setting.name for setting in parse_settings("dense,paper@0.2:stabilize=3+dart")]
    ['dense', 'paper@0.2:stabilize=3+dart']
    """
    settings = tuple(_parse(name.strip()) for name in text.split(","))
    twice = [setting.name for index, setting in enumerate(settings) if setting.name in _names(settings[:index])]
    if twice:
        raise ValueError(f"the setting {twice[0]!r} is there twice")
    return settings


def _names(settings: tuple[Setting, ...]) -> set[str]:
    return {setting.name for setting in settings}


def _parse(name: str) -> Setting:
    setting = Setting(name=name, options=Options(compressor=None, pruner=None))
    taken: set[str] = set()
    for part in name.split("+"):
        head, *assignments = part.split(":")
        method, _, share = head.partition("@")
        if method not in KNOWN:
            raise ValueError(f"{method!r} in the setting {name!r} is not known; known: {', '.join(KNOWN)}")
        place = _place(method)
        if place in taken:
            raise ValueError(f"the setting {name!r} has two parts for the same thing: leave one out")
        taken.add(place)
        values = dict(_assignment(each, name) for each in assignments)
        if share:
            values["keep"] = share
        setting = _with_part(setting, method, values)
    if setting.shown == "file" and setting.frames < 1:
        raise ValueError(f"file and frames in the setting {name!r}: a file is read as a whole; leave one out")
    return setting


def _place(method: str) -> str:
    """What a method changes: there can be one each."""
    if method in ENCODER or method == "dense":
        return "encoder"
    return "language model" if method in LANGUAGE else "clip" if method in ("file", "grey", "other") else method


def _with_part(setting: Setting, method: str, values: dict[str, str]) -> Setting:
    if method in ENCODER:
        return replace(
            setting, options=replace(setting.options, compressor=_build(setting.name, ENCODER[method], values))
        )
    if method in LANGUAGE:
        return replace(setting, options=replace(setting.options, pruner=_build(setting.name, LANGUAGE[method], values)))
    if method in ("frames", "pixels"):
        if set(values) != {"keep"}:
            raise ValueError(f"{method} in the setting {setting.name!r} takes a share and no more, as in {method}@0.5")
        share = _number(values["keep"], float, setting.name)
        if not 0 < share <= 1:
            raise ValueError(f"{method}@{share} in the setting {setting.name!r} must be more than 0 and at most 1")
        return replace(setting, frames=share) if method == "frames" else replace(setting, pixels=share)
    if values:
        raise ValueError(f"{method} in the setting {setting.name!r} takes no share and no fields")
    shown: dict[str, Shown] = {"file": "file", "grey": "grey", "other": "other"}
    return replace(setting, shown=shown.get(method, setting.shown))


def _build(name: str, method: Callable[..., Any], values: dict[str, str]) -> Any:
    """A compressor or pruner with the fields in `values`, each read as its default's type."""
    plain = method()
    kinds = {each.name: type(getattr(plain, each.name)) for each in fields(plain) if each.init}
    unknown = [key for key in values if key not in kinds]
    if unknown:
        raise ValueError(f"{unknown[0]!r} in the setting {name!r} is not known; known: {', '.join(kinds)}")
    return method(**{key: _number(value, kinds[key], name) for key, value in values.items()})


def _assignment(text: str, name: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise ValueError(f"{text!r} in the setting {name!r} must be a field and its value, as in layer=4")
    return key, value


def _number(text: str, kind: Callable[[str], Any], name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} in the setting {name!r} is not a number") from None
