"""The fidelity of reuse over time: drawn clips, PixelPrune's rule and the table, on a tiny model."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

import fidelity_films  # noqa: E402
import fidelity_video  # noqa: E402
from fidelity_cost import Cost  # noqa: E402
from fidelity_pixelprune import features, inherited  # noqa: E402

PATCH = tiny.PATCH


def picture(*levels):
    """A square picture of units of one colour each, `[side, side, 3]`."""
    side = int(len(levels) ** 0.5)
    units = torch.tensor(levels, dtype=torch.uint8).view(side, side)
    return units.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)[..., None].repeat(1, 1, 3)


def film(frames=8, side=56):
    return torch.randint(0, 256, (frames, side, side, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny.dinov2()


@pytest.mark.parametrize(
    ("levels", "threshold", "expected"),
    [
        ((1, 1, 9, 9), 0, [0, 0, 2, 2]),  # the first row is predicted from the left, the first column from above
        ((1, 9, 1, 9), 0, [0, 1, 0, 1]),  # above, since across is like left and not like above
        ((1, 1, 9, 1), 0, [0, 0, 2, 3]),  # left, since across is like above
        ((0, 20, 40, 60), 25 / 255, [0, 0, 2, 2]),  # compared is the unit inherited from, so that errors do not add up
    ],
)
def test_a_unit_that_its_prediction_tells_is_left_out(levels, threshold, expected):
    assert inherited(picture(*levels)[None], PATCH, threshold, over_time=False).tolist() == [expected]


def test_over_time_the_frame_before_is_looked_at_first():
    frames = torch.stack((picture(1, 2, 3, 4), picture(1, 2, 3, 9)))
    assert inherited(frames, PATCH, 0, over_time=True).tolist() == [[0, 1, 2, 3], [0, 1, 2, 7]]
    assert inherited(frames, PATCH, 0, over_time=False)[1].tolist() == [4, 5, 6, 7]


def test_without_repeats_pixelprune_is_the_plain_model(model):
    pixels = torch.randn(2, 3, 4 * PATCH, 4 * PATCH, generator=torch.Generator().manual_seed(0))
    source = torch.arange(32).view(2, 16)
    with torch.no_grad():
        found, counts = features(model, pixels, source)
        plain = model(pixels).last_hidden_state
    assert counts == [17, 17]
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    assert Cost.of(model.config, 2, 16).alone(counts) == Cost.of(model.config, 2, 16).dense


def test_what_is_left_out_has_the_features_of_its_source(model):
    pixels = torch.randn(2, 3, 4 * PATCH, 4 * PATCH, generator=torch.Generator().manual_seed(0))
    source = torch.arange(32).view(2, 16)
    source[1, 3], source[0, 5] = 3, 4
    with torch.no_grad():
        found, counts = features(model, pixels, source)
    assert counts == [16, 16]
    assert torch.equal(found[1, 4], found[0, 4])
    assert torch.equal(found[0, 6], found[0, 5])


def test_drawn_clips_are_what_they_are_called():
    given = film()
    still, pages, screen = (draw(given) for draw in fidelity_films.DRAWN.values())
    assert all(each.shape == given.shape and each.dtype == torch.uint8 for each in (still, pages, screen))
    change = (still[1:].int() - still[:-1].int()).abs()
    assert change[:, :28].max() < 20  # nothing but noise
    assert change[:, 28:42, 28:42].float().mean() > 20
    same = [torch.equal(first, second) for first, second in pairwise(pages)]
    assert not all(same)
    assert all(not torch.equal(first, second) for first, second in pairwise(screen))
    cuts = fidelity_films.hard_cuts([given, given.flip(1)])
    assert torch.equal(cuts[1], given[1])
    assert torch.equal(cuts[2], given.flip(1)[2])


def test_a_short_clip_plays_there_and_back(clip):
    every = fidelity_films.pictures(clip, 4, 2.0, 28)
    again = fidelity_films.pictures(clip, 40, 2.0, 28)
    own = len(again.unique(dim=0))
    assert own < 40
    assert torch.equal(again[:4], every)
    assert torch.equal(again[own], again[own - 2])


@pytest.mark.parametrize(
    ("words", "reason"), [("--grid", "--clips and --grid need --out"), ("--side 100", "--side a multiple of 14")]
)
def test_wrong_options_are_refused(monkeypatch, capsys, words, reason):
    monkeypatch.setattr("sys.argv", ["fidelity_video.py", *words.split()])
    with pytest.raises(SystemExit):
        fidelity_video.main()
    assert reason in capsys.readouterr().err


def test_it_measures_clips_of_ones_own(monkeypatch, capsys, tmp_path, model, clip):
    """All but the trained weights, which come with a package: here a tiny model has its place."""
    monkeypatch.setattr(fidelity_video, "load_checked", lambda _: (model, 0.0))
    out = tmp_path / "own.json"
    words = ["--clips", str(clip), "--frames", "3", "--side", "28", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["fidelity_video.py", *words])
    fidelity_video.main()
    stored = json.loads(out.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == fidelity_video.table(stored) + "\n"
    rows = {row["name"]: row for row in stored["rows"]}
    assert {"balanced", "fast", "careful", "reuse alone", "PixelPrune, over time 0"} <= set(rows)
    for row in rows.values():
        assert row["patch_cosine"] == pytest.approx(row["by_clip"][clip.stem]["patch_cosine"])
        assert 0 < row["flops"] <= 1.3
        assert 0 < row["computed"] <= 1
