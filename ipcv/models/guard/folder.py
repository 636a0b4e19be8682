"""Refuse a model's folder that would make code run or foreign files be read, before any library looks into it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipcv.errors import ModelError
from ipcv.files import parse_json
from ipcv.text import shown

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]  # what is fetched of a repository
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # endings of weights that can run code

_READ = (*FILES, "*.model.*", "*.tiktoken", "*/*.jinja")  # what libraries may read of a folder
_LARGEST = 2**27  # bytes of a file that holds no weights; Gemma's tokenizer is the largest, with a quarter of that
_PARTS = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")  # of a checkpoint saved by a distributed training
_WORKS = "give a folder or a repository with its weights as .safetensors"


def check_folder(folder: Path) -> None:
    """Raise `ModelError` if `folder` holds what must not be read: pickles, adapters, links that lead out of it."""
    for pattern in _READ:
        for path in sorted(folder.glob(pattern)):
            _check_file(path, folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{shown(folder)!r} holds an adapter (adapter_config.json), which is not read: merge it into its model, "
            "and give the folder of that"
        )
    if (folder / CONFIG).is_file():
        _check_weights(folder)


def weight_files(folder: Path) -> list[str]:
    """The names of the files that hold the weights of the model in `folder`, whether they are there or not.

    Raises `ModelError` for an index that cannot be read or that names anything but weights in the folder itself.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():  # transformers looks for them in this order
        return [WEIGHTS]
    names = _named(index)
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{shown(index)} names {shown(name)!r}, which is not a .safetensors file of that folder: {_WORKS}"
            )
    return names


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder. Raises `ModelError` if there is none in it."""
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{shown(path)} cannot be read ({error}): fetch the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{shown(path)} cannot be read (it is no JSON object): fetch the model again")
    return values


def check_names(values: Any, path: Path) -> None:
    """Raise `ModelError` if a text in `values`, read from `path`, is the name of a file outside its folder."""
    for text in _texts(values):
        if text.startswith(("/", "~")) or ".." in text:
            named = path.parent / text
            if _is_file(named) and not named.resolve().is_relative_to(path.parent.resolve()):
                raise ModelError(f"{shown(path)} names a file outside its folder, {shown(text)!r}: take that out of it")


def _named(index: Path) -> list[str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{shown(index)} cannot be read (it names no files of weights): fetch the model again")
    return sorted(set(names.values()))


def _check_weights(folder: Path) -> None:
    names = weight_files(folder)
    if parts := [path.name for path in folder.glob("*.safetensors") if _PARTS.fullmatch(path.name)]:
        raise ModelError(f"{shown(folder)!r} holds the parts of a training's checkpoint ({min(parts)}): {_WORKS}")
    if any((folder / name).is_file() for name in names):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.name.endswith(PICKLES))
    if pickles:
        raise ModelError(
            f"{shown(folder)!r} holds its weights as {shown(pickles[0])}, a pickle, which can run code and is not "
            f"read: {_WORKS}"
        )


def _check_file(path: Path, folder: Path) -> None:
    """Raise `ModelError` unless `path` is an ordinary file of `folder`, or of the hub's cache if that is one of it."""
    try:
        found, size = path.resolve(strict=True), path.stat().st_size
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise ModelError(f"{shown(path)} cannot be read: fetch the model again") from error
    if not any(found.is_relative_to(place) for place in _places(folder)):
        raise ModelError(f"{shown(path)} leads out of the model's folder, to {shown(found)}: put the file itself there")
    if not found.is_file():
        raise ModelError(f"{shown(path)} is no ordinary file: fetch the model again")
    if size > _LARGEST and path.suffix != ".safetensors":
        raise ModelError(f"{shown(path)} has {size / 1e6:,.0f} MB, too much for settings: fetch the model again")


def _places(folder: Path) -> Iterator[Path]:
    """Where the files of `folder` may lie: a snapshot in the hub's cache holds links to blobs beside it."""
    yield folder.resolve()
    if folder.parent.name == "snapshots":
        yield (folder.parent.parent / "blobs").resolve()


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, apart from keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False
