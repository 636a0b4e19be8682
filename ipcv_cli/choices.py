"""Options of the command line as the library's settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_origin

from ipcv.compression.registry import DEFAULTS, maker, preset_of, settings_of
from ipcv_cli.exit import UsageError

if TYPE_CHECKING:
    from ipcv.cluster.ray_cluster import Cluster
    from ipcv.encodings.cache import EncodingCache
    from ipcv.media.remote.access import Access
    from ipcv.media.sampling import Sampling
    from ipcv.models.source import ModelSource
    from ipcv.options import Options


COMPRESSION = (
    *("no_compress", "method", "preset", "quality"),
    *("keep", "layer", "stabilize", "neighbors", "stabilizer", "reuse"),
    *("reducer", "reducer_keep", "llm_pruner", "llm_keep", "llm_layer"),
)


def exclude(first: str, *others: tuple[str, object]) -> None:
    """Raise `UsageError` if any of `others`, pairs of option and value, was given beside the option `first`."""
    for name, value in others:
        if value not in (None, False):
            raise UsageError(f"{first} and {name} exclude each other: leave one of them out")


def given(**settings: object) -> dict[str, Any]:
    """The settings that are not None; the library has defaults for the others."""
    return {name: value for name, value in settings.items() if value is not None}


def model_source(chosen: Mapping[str, Any]) -> "ModelSource":
    """The model's address from a command's parameters by name; a command need not have `fit`."""
    from ipcv.models.source import ModelSource

    fields = ("revision", "offline", "device", "dtype", "quant", "fit")
    return ModelSource(name=chosen["model"], **{name: chosen[name] for name in fields if name in chosen})


def answer_options(chosen: Mapping[str, Any]) -> "Options":
    """`ipcv.Options` from a command's parameters by name; a command need not have all of them.

    Raises `ValueError` for bad values, `UsageError` for options that exclude each other.
    """
    from ipcv.options import Options

    direct = (
        "system",
        "max_pixels",
        "max_visual_tokens",
        "frame_batch",
        "max_new_tokens",
        "temperature",
        "seed",
        "repeats",
    )
    plain = Options(  # without methods, which import torch: other mistakes are told at once
        sampling=sampling(*(chosen[name] for name in ("fps", "max_frames", "start", "end"))),
        baseline=chosen.get("baseline", False),
        compressor=None,
        reducer=None,
        pruner=None,
        **given(**{name: chosen.get(name) for name in direct}),
    )
    return replace(plain, **compression(**{name: chosen[name] for name in COMPRESSION}))


def sampling(fps: float | None, max_frames: int | None, start: str | None, end: str | None) -> "Sampling":
    """The frames to read. Raises `ValueError` for bad values."""
    from ipcv.media.sampling import Sampling, parse_time

    first, last = (None if text is None else parse_time(text) for text in (start, end))
    return Sampling(**given(fps=fps, max_frames=max_frames, start=first, end=last))


def compression(
    *,
    no_compress: bool,
    llm_pruner: str | None,
    llm_keep: float | None,
    llm_layer: int | None,
    method: str | None = None,
    preset: str | None = None,
    reducer: str | None = None,
    reducer_keep: float | None = None,
    **in_encoder: Any,
) -> dict[str, Any]:
    """`compressor`, `reducer` and `pruner` for `ipcv.Options`; `in_encoder` are the compressor's settings by name.

    Raises `ValueError` for bad values, `UsageError` for options that exclude each other.
    """
    encoder, between, language = given(**in_encoder), given(keep=reducer_keep), given(keep=llm_keep, layer=llm_layer)
    if encoder.get("stabilize", "").isdecimal():
        encoder["stabilize"] = int(encoder["stabilize"])
    if no_compress:
        methods = [("--method", method), ("--preset", preset), ("--reducer", reducer), ("--llm-pruner", llm_pruner)]
        settings = (*_flags("--", encoder), *_flags("--reducer-", between), *_flags("--llm-", language))
        exclude("--no-compress", *methods, *settings)
        return {"compressor": None, "reducer": None, "pruner": None}
    if "quality" in encoder:
        exclude("--quality", ("--keep", encoder.get("keep")), ("--method paper", method == "paper"))
    if reducer_keep is not None and reducer in (None, "none"):
        raise UsageError("--reducer-keep says how much --reducer keeps: name one, as in --reducer evs")
    if language and llm_pruner is None:
        first = next(iter(language))
        raise UsageError(f"--llm-{first} is a setting of --llm-pruner: name one, as in --llm-pruner dart")
    return {
        "compressor": _compressor(method or DEFAULTS["compressor"], preset, encoder),
        "reducer": _method("--reducer", reducer or DEFAULTS["reducer"], "--reducer-", between),
        "pruner": _method("--llm-pruner", llm_pruner or DEFAULTS["pruner"], "--llm-", language),
    }


def _compressor(method: str | None, preset: str | None, settings: dict[str, Any]) -> Any:
    """The method called `method` with these settings; those that are missing are from the preset, if one is named."""
    if preset is None:
        return _method("--method", method, "--", settings)
    others = (f"--method {method}", method != DEFAULTS["compressor"]), ("--quality", settings.get("quality"))
    exclude(f"--preset {preset}", *others)
    return preset_of(preset, **settings)


def _flags(prefix: str, settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings as options with their values."""
    return [(f"{prefix}{name}", value) for name, value in settings.items()]


def _method(option: str, name: str | None, prefix: str, settings: dict[str, Any]) -> Any:
    """The method called `name`, which `option` chose, with these settings. Raises `UsageError` for settings it lacks.

    Settings of several values, as V2Drop has them per step, cannot be given on the command line.
    """
    if name is None:
        return None
    known = {} if name == "none" else settings_of(name)
    able = [each for each, kind in known.items() if get_origin(kind) is not tuple]
    exclude(f"{option} {name}", *_flags(prefix, {each: settings[each] for each in settings if each not in able}))
    return None if name == "none" else maker(name)(**settings)


def access(max_download: str, timeout: float | None, allow_private: bool) -> "Access":
    """How far remote videos may be followed. Raises `ValueError` for a size or a time that makes no sense."""
    from ipcv.files import parse_size
    from ipcv.media.remote.access import Access

    return Access(max_download=parse_size(max_download), timeout=timeout, allow_private=allow_private)


def encoding_cache(where: str, limit: str, warn: Callable[[str], None]) -> "EncodingCache | None":
    """The cache at `where`: a folder, `auto` or `off`. Raises `ValueError` for a size that is none."""
    if where == "off":
        return None
    from ipcv.encodings.cache import EncodingCache, default_folder
    from ipcv.files import expanded, parse_size

    folder = default_folder() if where == "auto" else expanded(where)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--cache {folder} is not a folder: name one, new or old")
    return EncodingCache(folder, parse_size(limit), warn)


def cluster(engine: str, actors: int | None, gpus: float | None, device: str) -> "Cluster | None":
    """The cluster of `--engine ray`. Raises `ValueError` for bad values, `UsageError` for options that exclude it."""
    if engine == "local":
        for name, value in (("--actors", actors), ("--gpus-per-actor", gpus)):
            if value is not None:
                raise UsageError(f"{name} is about a cluster: give --engine ray as well")
        return None
    if ":" in device:
        raise UsageError(
            f"--device {device}: Ray chooses the GPU of each actor; give --device {device.partition(':')[0]}"
        )
    if device == "cpu" and gpus:
        raise UsageError(f"--device cpu and --gpus-per-actor {gpus:g} exclude each other: leave one of them out")
    from ipcv.cluster.ray_cluster import Cluster

    return Cluster(actors=actors, gpus=0.0 if device == "cpu" else gpus)
