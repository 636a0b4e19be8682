"""An encoding as the bytes of a file: its tensors, and all else as JSON; taken back only if it is whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from operator import gt
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, PositiveInt
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ipcv.answer import StageName
from ipcv.architecture.visual import Visual
from ipcv.encodings.encoded import Encoded
from ipcv.limits.budget import Share
from ipcv.media.frames import MediaKind, VideoFacts

VERSION = 6
TENSORS = ("visual", "deepstack", "reused_tokens")

Time = Annotated[FiniteFloat, Field(ge=0)]


class About(BaseModel, extra="forbid"):
    """The facts of an encoding beside its tensors."""

    grid: tuple[PositiveInt, PositiveInt, PositiveInt]
    video: VideoFacts
    times: tuple[Time, ...]
    size: tuple[PositiveInt, PositiveInt]
    passes: tuple[tuple[NonNegativeInt, ...], ...]
    kept: tuple[tuple[NonNegativeInt, ...], ...]
    computed: tuple[tuple[NonNegativeInt, ...], ...]
    warnings: tuple[str, ...]
    expected: tuple[FiniteFloat, ...]
    frame_batch: PositiveInt
    kind: MediaKind
    share: Share | None


def packed(encoded: Encoded, key: str) -> bytes:
    """The bytes of a safetensors file with the encoding, to be called `key`."""
    visual = encoded.visual
    parts = {"visual": visual.tokens, "deepstack": visual.deepstack, "reused_tokens": encoded.reused_tokens}
    tensors = {name: parts[name].detach().cpu().contiguous() for name in TENSORS}
    fields: dict[str, Any] = {name: getattr(encoded, name) for name in About.model_fields}
    for name in ("video", "share"):
        fields[name] = fields[name] and asdict(fields[name])
    about = json.dumps(fields)
    return save(tensors, {"version": str(VERSION), "about": about, "hash": _hash(key, about, *tensors.values())})


def unpacked(path: Path) -> Encoded:
    """The encoding in a file, with 0 for its seconds.

    Raises `OSError`, `SafetensorError`, and `ValueError` or `LookupError` if it is none, or not whole.
    """
    with safe_open(path, "pt") as file:
        about = _metadata(file)
        tensors = [file.get_tensor(name) for name in TENSORS]
        if file.metadata()["hash"] != _hash(path.stem, about, *tensors):
            raise ValueError("its checksum is another one")
    visual, reused = Visual(*tensors[:2]), tensors[2]
    _check_shape(visual, reused)
    fields = dict(About.model_validate_json(about))
    _check_counts(fields)
    seconds: dict[StageName, float] = {"read": 0.0, "preprocess": 0.0, "encode": 0.0}
    return Encoded(visual=visual, reused_tokens=reused, seconds=seconds, **fields)


def stored_path(path: Path) -> str:
    """Which video the encoding in a file is of. Errors as in `unpacked`."""
    with safe_open(path, "pt") as file:
        return About.model_validate_json(_metadata(file)).video.path


def _metadata(file: Any) -> str:
    found = file.metadata() or {}
    if found.get("version") != str(VERSION):
        raise ValueError("another version of ipcv has made it")
    return str(found["about"])


def _check_shape(visual: Visual, reused: Tensor) -> None:
    tokens, deepstack = visual.tokens, visual.deepstack
    fits = tokens.ndim == 2 and deepstack.ndim == 3 and deepstack.shape[1:] == tokens.shape
    fits = fits and reused.dtype == torch.bool and reused.shape == tokens.shape[:1]
    if not fits or not len(tokens) or not tokens.is_floating_point() or deepstack.dtype != tokens.dtype:
        raise ValueError("its tensors have another shape")


def _check_counts(fields: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless of each pass no more tokens are kept than computed, nor more computed than it has."""
    passes, computed, kept = ([sum(each) for each in fields[name]] for name in ("passes", "computed", "kept"))
    computed = computed or passes
    kept = kept or computed
    fits = len(passes) == len(computed) == len(kept)
    if not fits or any(map(gt, computed, passes)) or any(map(gt, kept, computed)):
        raise ValueError("its numbers of tokens do not fit each other")


def _hash(key: str, about: str, *tensors: Tensor) -> str:
    """The checksum of a file's name and contents: a file under another's name holds another video."""
    found = blake2b(f"{key} {about}".encode(), digest_size=16)
    for tensor in tensors:
        found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return found.hexdigest()
