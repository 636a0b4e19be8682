"""A benchmark's report: tables for people, a plot, and what keeps a plot from being made."""

from dataclasses import replace

import happenings
import pytest
from PIL import Image

from ipcv.benchmark.report import Half, Report, Score
from ipcv.benchmark.scoring import Interval
from ipcv.benchmark.settings import parse_settings
from ipcv.benchmark.wordings import KINDS
from ipcv_cli.display import bench_report as output
from ipcv_cli.exit import UsageError

MODEL = happenings.answer().model
DENSE, PAPER, GREY, DEFAULT = parse_settings("dense,paper@0.2:stabilize=3,grey,coverage")


def score(setting, accuracy, share):
    return Score(
        name=setting.name,
        settings=setting,
        default=setting.is_default,
        accuracy=accuracy,
        interval=Interval(low=accuracy - 0.05, high=accuracy + 0.04),
        difference=accuracy - 0.9,
        difference_interval=None if setting is DENSE else Interval(low=accuracy - 0.95, high=accuracy - 0.85),
        by_kind={"colour": accuracy, "caption": accuracy / 2},
        by_camera={"still": half(setting, accuracy, share**2), "moving": half(setting, accuracy, share)},
        same_answers=1 - (0.9 - accuracy),
        changed=(),
        seconds={"encode": share, "prefill": 0.5, "generate": 0.1},
        flops={"encode": 1e9 * share, "prefill": 1e9, "generate": 1e6},
    )


def half(setting, accuracy, share):
    return Half(
        accuracy=accuracy,
        interval=Interval(low=accuracy - 0.07, high=accuracy + 0.06),
        difference=accuracy - 0.9,
        difference_interval=None if setting is DENSE else Interval(low=accuracy - 0.97, high=accuracy - 0.83),
        same_answers=1 - (0.9 - accuracy),
        seconds={"encode": share, "prefill": 0.5, "generate": 0.1},
        flops={"encode": 1e9 * share, "prefill": 1e9, "generate": 1e6},
        visual_tokens=100 * accuracy,
    )


REPORT = Report(
    model=MODEL,
    questions=40,
    by_kind={"colour": 30, "caption": 10},
    by_camera={"still": 20, "moving": 20},
    constant={"colour": 0.125, "caption": 0.05},
    scores=(score(DENSE, 0.9, 1.0), score(PAPER, 0.7, 0.46), score(GREY, 0.1, 1.0), score(DEFAULT, 0.8, 0.63)),
    warnings=(),
)


WIDE = """\
40 questions, demo on cpu, float32

                                                                          encode  encode  prefill  prefill
                            right, in %                  gained  changed   FLOPs    time    FLOPs     time
──────────────────────────────────────────────────────────────────────────────────────────────────────────
dense                  90.0 (85.0–94.0)                                     1.00    1.00     1.00     1.00
paper@0.2:stabilize=3  70.0 (65.0–74.0)  -20.0 (-25.0 to -15.0)    20.0%    0.46    0.46     1.00     1.00
grey                    10.0 (5.0–14.0)  -80.0 (-85.0 to -75.0)    80.0%    1.00    1.00     1.00     1.00
coverage (default)     80.0 (75.0–84.0)   -10.0 (-15.0 to -5.0)    10.0%    0.63    0.63     1.00     1.00

                                                                          encode  encode  prefill  prefill  visual
still camera                right, in %                  gained  changed   FLOPs    time    FLOPs     time  tokens
──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
dense                  90.0 (83.0–96.0)                                     1.00    1.00     1.00     1.00      90
paper@0.2:stabilize=3  70.0 (63.0–76.0)  -20.0 (-27.0 to -13.0)    20.0%    0.21    0.21     1.00     1.00      70
grey                    10.0 (3.0–16.0)  -80.0 (-87.0 to -73.0)    80.0%    1.00    1.00     1.00     1.00      10
coverage (default)     80.0 (73.0–86.0)   -10.0 (-17.0 to -3.0)    10.0%    0.40    0.40     1.00     1.00      80

                                                                          encode  encode  prefill  prefill  visual
moving camera               right, in %                  gained  changed   FLOPs    time    FLOPs     time  tokens
──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
dense                  90.0 (83.0–96.0)                                     1.00    1.00     1.00     1.00      90
paper@0.2:stabilize=3  70.0 (63.0–76.0)  -20.0 (-27.0 to -13.0)    20.0%    0.46    0.46     1.00     1.00      70
grey                    10.0 (3.0–16.0)  -80.0 (-87.0 to -73.0)    80.0%    1.00    1.00     1.00     1.00      10
coverage (default)     80.0 (73.0–86.0)   -10.0 (-17.0 to -3.0)    10.0%    0.63    0.63     1.00     1.00      80

right, in %            colour  caption   all
────────────────────────────────────────────
questions                  30       10    40
constant                 12.5      5.0  10.6
dense                    90.0     45.0  90.0
paper@0.2:stabilize=3    70.0     35.0  70.0
grey                     10.0      5.0  10.0
coverage (default)       80.0     40.0  80.0
"""

NARROW = """\
40 questions, demo on cpu, float32

                        right, in %                  gained
───────────────────────────────────────────────────────────
dense              90.0 (85.0–94.0)
paper@0.2:stabili  70.0 (65.0–74.0)  -20.0 (-25.0 to -15.0)
ze=3
grey                10.0 (5.0–14.0)  -80.0 (-85.0 to -75.0)
coverage           80.0 (75.0–84.0)   -10.0 (-15.0 to -5.0)
(default)

                            encode  encode  prefill  prefill
                   changed   FLOPs    time    FLOPs     time
────────────────────────────────────────────────────────────
dense                         1.00    1.00     1.00     1.00
paper@0.2:stabili    20.0%    0.46    0.46     1.00     1.00
ze=3
grey                 80.0%    1.00    1.00     1.00     1.00
coverage             10.0%    0.63    0.63     1.00     1.00
(default)

still camera            right, in %                  gained
───────────────────────────────────────────────────────────
dense              90.0 (83.0–96.0)
paper@0.2:stabili  70.0 (63.0–76.0)  -20.0 (-27.0 to -13.0)
ze=3
grey                10.0 (3.0–16.0)  -80.0 (-87.0 to -73.0)
coverage           80.0 (73.0–86.0)   -10.0 (-17.0 to -3.0)
(default)

                            encode  encode  prefill  prefill
still camera       changed   FLOPs    time    FLOPs     time
────────────────────────────────────────────────────────────
dense                         1.00    1.00     1.00     1.00
paper@0.2:stabili    20.0%    0.21    0.21     1.00     1.00
ze=3
grey                 80.0%    1.00    1.00     1.00     1.00
coverage             10.0%    0.40    0.40     1.00     1.00
(default)

                   visual
still camera       tokens
─────────────────────────
dense                  90
paper@0.2:stabili      70
ze=3
grey                   10
coverage               80
(default)
"""


@pytest.mark.parametrize(("width", "table"), [(118, WIDE), (60, NARROW)])
def test_the_tables_have_a_line_per_setting_and_a_column_per_kind(width, table):
    text = output.report_table(REPORT, width)
    assert text.startswith(table)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 118])
def test_the_tables_of_many_kinds_fit_any_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    scores = tuple(replace(each, by_kind=dict.fromkeys(KINDS, each.accuracy)) for each in REPORT.scores)
    counts = dict.fromkeys(KINDS, 50)
    report = replace(REPORT, questions=550, by_kind=counts, constant=dict.fromkeys(KINDS, 0.25), scores=scores)
    lines = output.report_table(report).splitlines()
    assert max(map(len, lines)) <= width
    headings = " ".join(line for line in lines if line.startswith("right, in %")).split()
    assert [word for word in headings if word in KINDS] == [*KINDS]
    assert not any("…" in line for line in lines[: lines.index(next(x for x in lines if x.startswith("right: ")))])


def test_one_kind_of_camera_has_no_table_of_its_own():
    alone = replace(REPORT, by_camera={"still": 40})
    assert " camera" not in output.report_table(alone)


def test_every_one_of_many_settings_has_its_lines():
    names = [f"paper@0.{index}" for index in range(10, 34)]
    many = replace(REPORT, scores=tuple(score(setting, 0.5, 0.5) for setting in parse_settings(",".join(names))))
    lines = output.report_table(many, output.WIDTH).splitlines()
    assert all(sum(line.startswith(f"{name} ") for line in lines) == 4 for name in names)


def test_names_that_were_typed_cannot_command_the_terminal():
    evil = replace(REPORT, model=replace(MODEL, name="[red]\x1b[2J"))
    assert "[red]\\x1b[2J on cpu" in output.report_table(evil)


@pytest.mark.parametrize("name", ["plot.svg", "plot.PNG"])
def test_the_plot_is_a_picture_of_what_was_shown(tmp_path, name):
    output.check_plot(tmp_path / name)
    output.plot(REPORT, tmp_path / name)
    if name.endswith("svg"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        output.plot(REPORT, tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text
        assert "<!-- dense -->" in text
        assert "<!-- paper@0.2:stabilize=3 -->" in text
        assert "<!-- grey -->" not in text
        assert "<!-- coverage (default) -->" in text
    else:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 400


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("plot.pdf", r"must end in \.png or \.svg"),
        ("no/plot.png", "no such folder"),
        ("folder.svg", "cannot be written to"),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_beforehand(tmp_path, name, complaint):
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match=complaint):
        output.check_plot(tmp_path / name)


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs matplotlib: pip install 'ipcv\[plot\]'"):
        output.check_plot(tmp_path / "plot.png")
