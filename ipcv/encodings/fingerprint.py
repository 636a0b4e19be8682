"""Keys that tell whether two pieces of work are the same: by the video's content, the model and the options."""

import dataclasses
import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ipcv.compression.method import Method
from ipcv.encodings.hashes import file_hash, hub_hash
from ipcv.media.remote.access import Access
from ipcv.media.remote.copies import identity_of_remote, local_path
from ipcv.media.video.container import check_file, unreadable
from ipcv.models.facts import ModelFacts
from ipcv.models.hub import find_folder
from ipcv.models.source import ModelSource
from ipcv.options import Options

AFTER_ENCODING = (
    "pruner",
    "system",
    "max_new_tokens",
    "temperature",
    "seed",
    "baseline",
    "repeats",
)  # options encoding ignores


def content(video: str, access: Access | None = None) -> dict[str, Any]:
    """The size of a video's file and a hash of all of it, or of the marks that its store keeps of it.

    The hash is "" where a store keeps no marks. Raises `VideoError` where there is no such video.
    """
    access = access or Access()
    path = local_path(video, access)
    if path is None:
        return identity_of_remote(video, access)
    check_file(path)
    try:
        return {"size": path.stat().st_size, "hash": file_hash(path)}
    except OSError as error:
        raise unreadable(path, error) from error


def model(facts: ModelFacts) -> dict[str, Any]:
    """A model by name, revision and files, and how its numbers are held; on which device does not matter."""
    folder = find_folder(facts.name, revision=facts.revision, offline=True)
    return described_model(facts.name, folder, facts.revision, facts.dtype, facts.quantization)


def model_to_come(source: ModelSource) -> dict[str, Any]:
    """A model that is not loaded yet, as `model` describes it once it is. Fetches it; errors as in `ipcv.load`.

    The quantisation is "auto" where only the memory that is free when the model is loaded decides on it.
    """
    found = source.resolve()
    quantization = "auto" if source.leaves_quantization_open else found.quantization
    return described_model(source.name, found.folder, found.commit, found.dtype_name, quantization)


def described_model(
    name: str, folder: Path, revision: str | None, dtype: str, quantization: str | None
) -> dict[str, Any]:
    """A model by name, revision, a hash of its files, and how its numbers are held."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".jinja", ".safetensors", ".txt")]
    found = blake2b(digest_size=16)
    for file in files:
        found.update(f"{file.name}:{hub_hash(file) or file_hash(file)};".encode())
    return {
        "name": name,
        "revision": revision,
        "files": found.hexdigest(),
        "dtype": dtype,
        "quantization": quantization,
    }


def of_encoding(video: dict[str, Any], model_identity: dict[str, Any], options: Options) -> str:
    """The key of a video's encoding under `options`, nothing lowered; `ipcv.encodings.reuse` has keys for lowered ones.

    Options that act only after encoding do not count; every other option does, also one that is new.
    """
    settings = plain(options)
    for name in (*AFTER_ENCODING, "max_visual_tokens"):
        settings.pop(name)
    return digest({"video": video, "model": model_identity | {"quantization": None}, "settings": settings})


def plain(value: Any) -> Any:
    """Settings as JSON values. A dataclass brings its `kind` along, a method its name, which no renaming changes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": value.name if isinstance(value, Method) else _kind(value), **fields}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{value!r} is no setting: give it a form that can be compared")


def _kind(settings: Any) -> str:
    kind: str | None = getattr(settings, "kind", None)
    if kind is None:
        raise TypeError(f"{type(settings).__name__} is no setting: give it a `kind` that stays what it is")
    return kind


def digest(value: Any) -> str:
    """32 hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(os.fsencode(text), digest_size=16).hexdigest()
