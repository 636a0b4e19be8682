"""Multimodal positions against the rule written naively, and against a model class that is right already."""

from itertools import pairwise
from typing import Any

import oracle
import oracle_families
import pytest
import tiny
import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from ipcv.architecture.positions import next_positions, of_timed_grid, prompt_positions, without_overlap
from ipcv.architecture.visual import VisualSpan

SHORT, LONG = ("video", 2, 4, 6), ("video", 7, 4, 6)  # fewer and more temporal patches than the larger merged side
WIDE, PHOTO, LARGE = ("video", 3, 2, 12), ("image", 1, 4, 6), ("image", 1, 10, 4)

PROMPTS = [
    pytest.param((9,), id="text alone"),
    pytest.param((4, SHORT, 5), id="short video"),
    pytest.param((4, LONG, 5), id="long video"),
    pytest.param((LONG, 3), id="video first"),
    pytest.param((3, LONG), id="video last"),
    pytest.param((LONG,), id="video alone"),
    pytest.param((2, PHOTO, 1, LARGE, 4), id="images"),
    pytest.param((2, LONG, 3, SHORT, 1, ("video", 20, 2, 2), 4), id="several videos"),
    pytest.param((1, LONG, 2, PHOTO, 3, WIDE, 1, LARGE, 2, LONG, 6), id="videos and images"),
    pytest.param((3, LONG, PHOTO, LONG, 2), id="side by side"),
]


def expected(*parts: int | tuple[str, int, int, int]) -> Tensor:
    return torch.tensor(oracle.places(*parts)).T[:, None]


def positions(model: Qwen2VLForConditionalGeneration, *parts: int | tuple[str, int, int, int]) -> Tensor:
    inputs = tiny.prompt(*parts)
    grids = {name: grid for name, grid in inputs.items() if name.endswith("grid_thw")}
    return prompt_positions(model, inputs["input_ids"], inputs["mm_token_type_ids"], **grids)


@pytest.fixture
def right_model(qwen2_vl, monkeypatch) -> Qwen2VLForConditionalGeneration:
    """The model as it would be in a version whose own positions follow the rule."""

    def get_rope_index(
        input_ids: Tensor,
        mm_token_type_ids: Tensor,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        images, videos = (iter([] if grid is None else grid.tolist()) for grid in (image_grid_thw, video_grid_thw))
        types, parts = mm_token_type_ids[0].tolist(), []
        while (done := expected(*parts).shape[-1] if parts else 0) < len(types):
            if types[done] == 0:
                parts.append(next((i for i, kind in enumerate(types[done:]) if kind), len(types) - done))
            else:
                parts.append(("video", *next(videos if types[done] == 2 else images)))
        result = expected(*parts)
        return result, result.max() + 1 - len(types)

    monkeypatch.setattr(qwen2_vl.model, "get_rope_index", get_rope_index)
    return qwen2_vl


@pytest.mark.parametrize("parts", PROMPTS)
def test_positions_follow_the_rule(qwen2_vl, parts):
    assert torch.equal(positions(qwen2_vl, *parts), expected(*parts))


@pytest.mark.parametrize("parts", PROMPTS)
def test_positions_stay_as_they_are_where_the_model_is_right(right_model, parts):
    assert torch.equal(positions(right_model, *parts), expected(*parts))


def test_positions_of_two_inputs_never_overlap(qwen2_vl):
    parts = (2, LONG, 3, PHOTO, 1, LONG, 4)
    got = positions(qwen2_vl, *parts)
    sizes = [part if isinstance(part, int) else part[1] * part[2] * part[3] // 4 for part in parts]
    spans = got.split(sizes, dim=-1)
    assert all(later.min() == earlier.max() + 1 for earlier, later in pairwise(spans))


def test_correcting_does_not_write_into_what_it_was_given(qwen2_vl):
    inputs = tiny.prompt(2, LONG, 3)
    types = inputs["mm_token_type_ids"]
    wrong, _ = qwen2_vl.model.get_rope_index(inputs["input_ids"], types, video_grid_thw=inputs["video_grid_thw"])
    before = wrong.clone()
    without_overlap(wrong, types[0])
    assert torch.equal(wrong, before)


@pytest.mark.parametrize("parts", PROMPTS)
def test_the_next_token_follows_the_largest_position(qwen2_vl, parts):
    want = expected(*parts, 1)[:, :, -1:]
    got = next_positions(positions(qwen2_vl, *parts))
    assert got.shape == (3, 1, 1)
    assert torch.equal(got, want)


# --------------------------------------------------------------------------------------- positions that are times


RATES = {
    "two frames a second": [0.5 * i for i in range(12)],
    "a clip from the middle, a little off": [30 + 0.5005 * i for i in range(12)],
    "a film": [i / 1.7 for i in range(12)],
    "one pair": [4.0, 4.5],
    "a gap": [0, 0.5, 1, 1.5, 9, 9.5, 10, 10.5],
    "ever slower": [float(i * i) for i in range(8)],
}


def timed(times: list[float]) -> tuple[Any, tuple[int, int, int], Tensor, Tensor]:
    model, grid = tiny.qwen2_5_vl(depth=1, layers=1), (len(times) // 2, 4, 6)
    inputs = tiny.prompt(3, ("video", *grid), 4)
    return model, grid, inputs["input_ids"], inputs["mm_token_type_ids"]


def video(grid, times):
    return VisualSpan(kind="video", grid=tuple(grid), times=tuple(times), tokens=grid[0] * grid[1] * grid[2] // 4)


@pytest.mark.parametrize("name", RATES)
def test_timed_positions_follow_the_rule(name):
    times = RATES[name]
    model, grid, ids, types = timed(times)
    want = oracle_families.timed_places(3, grid, times[::2], 0, 4)
    assert of_timed_grid(model, ids, types, [video(grid, times)])[:, 0].T.tolist() == [list(place) for place in want]


@pytest.mark.parametrize("name", list(RATES)[:3])
def test_at_a_steady_rate_timed_positions_are_those_of_the_model(name):
    times = RATES[name]
    model, grid, ids, types = timed(times)
    seconds = torch.tensor([round(times[2] - times[0], 3)])
    want, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=types, video_grid_thw=torch.tensor([grid]), second_per_grid_ts=seconds
    )
    got = of_timed_grid(model, ids, types, [video(grid, times)])
    assert torch.equal(got[:, types != 0], want[:, types != 0])


def test_behind_a_gap_positions_are_late_by_that_gap():
    times = RATES["a gap"]
    model, grid, ids, types = timed(times)
    own = of_timed_grid(model, ids, types, [video(grid, times)])[0, 0, types[0] != 0]
    assert own.unique().tolist() == [3, 3 + 2, 3 + 18, 3 + 20]


def test_each_of_several_videos_goes_by_its_own_times():
    first, second = RATES["a gap"], RATES["two frames a second"]
    model, grid, _, _ = timed(first)
    other = (len(second) // 2, 4, 6)
    inputs = tiny.prompt(3, ("video", *grid), 2, ("image", 1, 4, 4), 1, ("video", *other), 4)
    photo = VisualSpan(kind="image", grid=(1, 4, 4), times=(0.0,), tokens=4)
    shown = [video(grid, first), photo, video(other, second)]
    own = of_timed_grid(model, inputs["input_ids"], inputs["mm_token_type_ids"], shown)[0, 0]
    spans = [3, grid[0] * 6, 2, 4, 1, other[0] * 6, 4]
    texts, videos = own.split(spans)[::2], own.split(spans)[1::2]
    assert videos[0].unique().tolist() == [3, 3 + 2, 3 + 18, 3 + 20]
    assert texts[1].tolist() == [24, 25]
    assert texts[2].tolist() == [videos[1].max() + 2]  # the photo is two squares wide
    start = int(texts[2][-1]) + 1
    assert videos[2].unique().tolist() == [start + 2 * i for i in range(6)]
    assert texts[3].tolist() == list(range(start + 11, start + 15))
