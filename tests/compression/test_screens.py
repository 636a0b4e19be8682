"""Screen recordings at the default threshold: no letter that changes is taken from before."""

from typing import Any

import numpy as np
import pytest
import screens
import tiny
import torch
from torch import Tensor
from transformers import Dinov2Model

from ipcv import IPCV
from ipcv.architecture.preprocess import PatchSettings

INK = 1.0  # pixels from black to white: less of a letter than that cannot be read
HALF = (0.5, 0.5, 0.5)
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
KINDS = {
    "qwen2_vl": (tiny.qwen2_vl, PatchSettings(patch_size=14, min_pixels=1)),
    "qwen3_vl": (tiny.qwen3_vl, PatchSettings(patch_size=16, min_pixels=1, image_mean=HALF, image_std=HALF)),
    "dinov2": (tiny.dinov2, PatchSettings(patch_size=14, temporal_patch_size=1, min_pixels=1, **IMAGENET)),
}


@pytest.fixture(params=KINDS, scope="module")
def kind(request) -> tuple[Any, PatchSettings]:
    """A tiny model with patches of a real size, and how its pixels are normalised."""
    build, settings = KINDS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "PATCH", settings.patch_size)
        return build(depth=2), settings


def computed(model: Any, settings: PatchSettings, frames: np.ndarray) -> Tensor:
    """Which patches of each slice are computed at the default threshold; by nothing else is a slice computed whole."""
    pixels = torch.from_numpy(frames)
    with IPCV(keep=1, layer=1, cut=1, refresh=99)(model, video=True) as kept:
        for part in pixels.split(4):  # in batches, as `ipcv ask` does it
            encode(model, settings, part)
    return torch.cat(list(kept.masks))


def encode(model: Any, settings: PatchSettings, frames: Tensor) -> None:
    if isinstance(model, Dinov2Model):
        mean, std = (torch.tensor(each) for each in (settings.image_mean, settings.image_std))
        model(((frames / 255 - mean) / std).permute(0, 3, 1, 2))
    else:
        patches, grid = settings.patchify(frames)
        model.model.visual(patches, grid_thw=torch.tensor([grid]))


def size(settings: PatchSettings) -> tuple[int, int]:
    return 16 * settings.patch_size, 24 * settings.patch_size


@pytest.mark.parametrize("name", screens.SCREENS)
def test_a_changed_letter_is_computed_and_little_else(kind, name):
    model, settings = kind
    frames = screens.drawn(name, *size(settings))
    ink = screens.changed_ink(frames, settings.temporal_patch_size, settings.patch_size)
    masks = computed(model, settings, frames).numpy()
    assert (ink >= INK).sum() >= 5
    assert masks[ink >= INK].all()
    if name != "pages":
        assert not masks[1:][ink[1:] == 0].any()


@pytest.mark.parametrize("name", screens.SCREENS)
def test_a_recorded_letter_is_computed_and_most_of_the_rest_is_not(kind, name, tmp_path):
    model, settings = kind
    frames = screens.drawn(name, *size(settings))
    ink = screens.changed_ink(frames, settings.temporal_patch_size, settings.patch_size)
    masks = computed(model, settings, screens.recorded(frames, tmp_path)).numpy()
    assert masks[ink >= INK].all()
    if name != "pages":
        assert masks[1:][ink[1:] == 0].mean() < 0.02
