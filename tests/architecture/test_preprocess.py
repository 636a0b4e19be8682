"""Frames to patches: against the family's own image processor, and against the layout written out naively."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from ipcv.architecture.preprocess import PatchSettings
from ipcv.errors import ModelError, VideoError

CONFIG = {
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "min_pixels": 3136,
    "max_pixels": 12845056,
}
SIZES = {"shortest_edge": 784, "longest_edge": 100352}


def pictures(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def without(*names):
    return {name: value for name, value in CONFIG.items() if name not in names}


def test_still_pairs_equal_the_family_s_image_processor():
    stills = pictures(3, 84, 140)
    expected = Qwen2VLImageProcessorPil(do_resize=False)(images=list(stills), return_tensors="pt")
    patches, grid = PatchSettings().patchify(torch.from_numpy(stills.repeat(2, axis=0)))
    assert grid == (3, 6, 10)
    assert expected["image_grid_thw"].tolist() == [[1, 6, 10]] * 3
    torch.testing.assert_close(patches, expected["pixel_values"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("patch", "time", "merge"), [(14, 2, 2), (7, 2, 2), (4, 3, 1), (2, 1, 3)])
def test_moving_frames_equal_the_layout_written_out(patch, time, merge):
    settings = PatchSettings(patch_size=patch, temporal_patch_size=time, merge_size=merge)
    frames = pictures(2 * time, 2 * settings.factor, 3 * settings.factor)
    mean, std = np.array(settings.image_mean), np.array(settings.image_std)
    rows = []
    for step in range(2):
        for token_row in range(2):
            for token_column in range(3):
                for row in range(merge):
                    for column in range(merge):
                        top = (token_row * merge + row) * patch
                        left = (token_column * merge + column) * patch
                        block = frames[step * time : (step + 1) * time, top : top + patch, left : left + patch]
                        rows.append(np.moveaxis((block / 255 - mean) / std, 3, 0).ravel())
    patches, grid = settings.patchify(torch.from_numpy(frames))
    assert grid == (2, 2 * merge, 3 * merge)
    assert patches.dtype == torch.float32
    torch.testing.assert_close(patches, torch.tensor(np.array(rows), dtype=torch.float32), rtol=0, atol=1e-6)


def test_the_frames_given_are_left_alone():
    frames = torch.from_numpy(pictures(2, 28, 28))
    before = frames.clone()
    PatchSettings().patchify(frames)
    assert torch.equal(frames, before)


@pytest.mark.parametrize("shape", [(3, 28, 28, 3), (2, 27, 28, 3), (2, 28, 14, 3)])
def test_frames_that_do_not_divide_into_patches_are_refused(shape):
    with pytest.raises(ValueError, match="do not divide into patches"):
        PatchSettings().patchify(torch.zeros(shape, dtype=torch.uint8))


@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    limits=st.sampled_from([(3136, 12845056), (3136, 100352), (784, 4000), (100352, 602112)]),
)
def test_sizes_follow_the_family_s_rule(height, width, limits):
    settings = PatchSettings(min_pixels=limits[0], max_pixels=limits[1])
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(VideoError, match="more than 200 times longer than wide: crop it"):
            settings.resize(height, width)
    else:
        assert settings.resize(height, width) == smart_resize(height, width, 28, *limits)


def test_a_model_folder_in_the_older_style_is_read(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIG | {"rescale_factor": 0.5}))
    settings = PatchSettings.from_folder(tmp_path)
    assert settings == PatchSettings(rescale_factor=0.5)


def test_a_model_folder_in_the_newer_style_is_read(tmp_path):
    newer = without("min_pixels", "max_pixels") | {"size": SIZES}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(newer))
    settings = PatchSettings.from_folder(tmp_path)
    assert (settings.min_pixels, settings.max_pixels) == (784, 100352)


def test_limits_that_are_null_give_way_to_the_size():
    settings = PatchSettings.from_dict(CONFIG | {"min_pixels": None, "max_pixels": None, "size": SIZES})
    assert (settings.min_pixels, settings.max_pixels) == (784, 100352)


def test_video_settings_are_preferred_to_those_for_images(tmp_path):
    nested = {"image_processor": CONFIG, "video_processor": CONFIG | {"max_pixels": 5000}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": CONFIG | {"max_pixels": 4000}}))
    assert PatchSettings.from_folder(tmp_path).max_pixels == 4000
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIG))
    assert PatchSettings.from_folder(tmp_path).max_pixels == CONFIG["max_pixels"]
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert PatchSettings.from_folder(tmp_path).max_pixels == 5000
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(CONFIG | {"max_pixels": 6000}))
    assert PatchSettings.from_folder(tmp_path).max_pixels == 6000


def test_a_config_may_switch_rescaling_and_normalising_off():
    settings = PatchSettings.from_dict(CONFIG | {"do_rescale": False, "do_normalize": False})
    frames = torch.from_numpy(pictures(2, 28, 28))
    assert sorted(settings.patchify(frames)[0].flatten().tolist()) == sorted(frames.flatten().tolist())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (without("patch_size"), "lacks 'patch_size'"),
        (without("image_mean"), "lacks 'image_mean'"),
        (without("min_pixels"), "no min_pixels and max_pixels"),
        (CONFIG | {"patch_size": 0}, "patch_size must be a whole number above 0, not 0"),
        (CONFIG | {"patch_size": 14.5}, "patch_size must be a whole number"),
        (CONFIG | {"merge_size": True}, "merge_size must be a whole number"),
        (CONFIG | {"image_mean": [0.5]}, "image_mean must be three numbers"),
        (CONFIG | {"image_mean": 0.5}, "makes no sense"),
        (CONFIG | {"image_std": [1, 1, 0]}, "image_std must be three numbers above 0"),
        (CONFIG | {"image_std": ["a", 1, 1]}, "image_std must be three numbers"),
        (CONFIG | {"rescale_factor": 0}, "rescale_factor must be"),
        (CONFIG | {"min_pixels": 99, "max_pixels": 98}, "must not exceed"),
        (CONFIG | {"size": 7}, "makes no sense"),
        ([1, 2], "makes no sense"),
    ],
)
def test_a_config_without_sense_is_an_error_that_names_it(tmp_path, values, message):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=message) as caught:
        PatchSettings.from_folder(tmp_path)
    assert str(caught.value).startswith(str(path))


def test_a_folder_without_a_readable_config_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        PatchSettings.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes(b"\xff{")
    with pytest.raises(ModelError, match="cannot be read"):
        PatchSettings.from_folder(tmp_path)


def test_a_pixel_limit_stays_within_the_model_s_own():
    settings = PatchSettings(min_pixels=1000, max_pixels=100_000)
    assert settings.limited(50_000).max_pixels == 50_000
    for outside in (999, 100_001):
        with pytest.raises(ValueError, match="max_pixels must be 1000 to 100000 for this model"):
            settings.limited(outside)
    assert settings.limited(999, strict=False).max_pixels == 1000
    assert settings.limited(100_001, strict=False).max_pixels == 100_000


def test_torchvision_is_not_needed():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import torch; from ipcv.architecture.preprocess import PatchSettings\n"
        "print(PatchSettings().patchify(torch.zeros(2, 28, 28, 3, dtype=torch.uint8))[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 2, 2)\n"
