"""Layout: what people see on stderr."""

import io
from dataclasses import replace

import happenings
import pytest
from happenings import NARROW, SUMMARY
from rich.console import Console, RenderableType

from ipcv.answer import Opened, Quality, StageDone
from ipcv_cli.display.render import Progress, comparison, facts, line, magnitude, seconds, stderr_console, summary


def shown(item: RenderableType, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False, highlight=False).print(item)
    return "\n".join(text.rstrip() for text in file.getvalue().splitlines())


COMPARISON = [
    "measured: times as fast as uncompressed, 7 pairs of runs in turn, median (range)",
    "  encode 2.10× (2.00–2.30), faster: 4.00 s against 8.40 s",
    "  prefill 1.25× (0.97–1.31), too close to call: 1.20 s against 1.50 s",
    "  in all 1.50× (1.40–1.60), faster: 60.0 s against 90.0 s",
    "measured: similarity of the visual embeddings 0.987; uncompressed, the answer is 'blue'",
]


def test_the_summary_is_a_compact_table_for_80_columns():
    assert shown(summary(happenings.answer()), width=80) == SUMMARY


def test_the_summary_has_no_memory_column_where_memory_was_not_measured():
    answer = happenings.answer()
    answer = replace(answer, stages=tuple(replace(stage, peak_memory=None) for stage in answer.stages))
    rows = shown(summary(answer)).splitlines()
    assert rows[1] == "stage          time    tokens in → computed         FLOPs  of dense"
    assert rows[6] == "prefill      1.50 s        640 → 352 tokens    9.00 GFLOP       90%"
    assert rows[-1] == "Time and tokens are measured; FLOPs are computed from the model's sizes."


def test_a_narrow_terminal_keeps_the_shares():
    assert f"{NARROW}a wider terminal also shows: FLOPs, memory\n" in shown(summary(happenings.answer()), width=60)
    assert "wider" not in shown(summary(happenings.answer()))
    for width in (24, 40, 60, 66, 76):
        rows = shown(summary(happenings.answer()), width=width).splitlines()
        assert max(map(len, rows)) <= width
        (encode,) = (row for row in rows if row.startswith("encode"))
        assert encode.endswith("47%") or width == 76
        assert "47%" in encode
        assert not any("…" in row for row in rows)


def test_what_was_reused_is_called_so_and_saves_nothing_by_compression():
    reused = [replace(stage, seconds=0.0, tokens_computed=0, flops=0) for stage in happenings.STAGES[:3]]
    stages, videos = (*reused, *happenings.STAGES[3:]), (replace(happenings.VIDEO_INPUT, reused=True),)
    rows = shown(summary(replace(happenings.answer(), stages=stages, videos=videos))).splitlines()
    assert rows[3].split() == ["read", "8", "frames", "reused"]
    assert rows[5].split() == ["encode", "2,304", "patches", "reused"]
    assert "nothing was read or encoded: the cache had it" in rows
    both = replace(happenings.answer(), videos=(*videos, happenings.VIDEO_INPUT))
    assert "of 1 of 2 inputs nothing was read or encoded: the cache had it" in shown(summary(both))


def test_patches_that_hardly_changed_are_counted():
    video = replace(happenings.VIDEO_INPUT, patches=12288, patches_reused=9100, patches_computed=1120)
    rows = shown(summary(replace(happenings.answer(), videos=(video, video)))).splitlines()
    assert "24,576 patches: 18,200 reused, 2,240 computed to the end" in rows
    cached = shown(summary(replace(happenings.answer(), videos=(replace(video, reused=True),))))
    assert "computed to the end" not in cached


def test_a_quality_is_shown_as_asked_expected_and_measured():
    quality = Quality(asked=0.9, expected=0.94, kept=0.05, measured=None, missed_by=None)
    shown_alone = shown(summary(replace(happenings.answer(), quality=quality)))
    assert "quality: 0.9 asked, 0.940 expected; 5.0% of the patches were kept" in shown_alone
    quality = replace(quality, measured=0.888, missed_by=0.012)
    beside = shown(summary(replace(happenings.answer(), quality=quality)))
    assert "0.9 asked, 0.940 expected, 0.888 measured, missed by 0.012; 5.0% of" in beside


def test_a_baseline_is_compared_as_measured():
    text = shown(summary(happenings.answer(baseline=happenings.BASELINE)))
    assert text.splitlines()[9:14] == COMPARISON


def test_a_baseline_with_the_same_answer_says_so():
    baseline = replace(happenings.BASELINE, same_answer=True)
    assert " 0.987; the same answer\n" in shown(summary(happenings.answer(baseline=baseline)))


def test_progress_fills_per_frame_batch_and_then_per_stage():
    opened, batch, *stages = happenings.events("red.")[:6]
    progress = Progress()
    progress.take(opened)
    assert "0 of 8 frames" in shown(progress.table())
    progress.take(batch)
    assert "8 of 8 frames" in shown(progress.table())
    assert "2,304" not in shown(progress.table())
    for event in stages[:3]:
        progress.take(event)
    rows = shown(progress.table()).splitlines()
    assert rows[4].split() == ["encode", "4.20", "s", "2,304", "→", "806", "patches", "47.00", "GFLOP", "47%"]
    assert rows[5].split()[0] == "prefill"
    assert rows[6].strip() == "generate"


def test_progress_counts_the_tokens_of_an_answer_that_streams_elsewhere():
    progress = Progress()
    for event in happenings.events("re", "d.")[:8]:
        progress.take(event)
    assert shown(progress.table()).splitlines()[-1].split()[-2:] == ["2", "tokens"]


def test_the_running_stage_has_a_clock(monkeypatch):
    now = 100.0
    monkeypatch.setattr("ipcv_cli.display.render.time.monotonic", lambda: now)
    progress = Progress()
    progress.take(Opened(video=happenings.VIDEO, frames=8))
    now = 102.5
    assert "encode       2.50 s" in shown(progress.table())
    progress.take(StageDone(stage=happenings.STAGES[2]))
    now = 102.6
    assert "prefill     0.100 s" in shown(progress.table())


def test_names_and_answers_are_neither_markup_nor_control_characters():
    answer = happenings.answer(
        name="[red]my\x1b[2J\u202emodel[/red]", baseline=replace(happenings.BASELINE, answer="\x9b2J")
    )
    text = shown(summary(answer))
    assert r"[red]my\x1b[2J\u202emodel[/red] on cpu" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}


@pytest.mark.parametrize("message", ["no [bold]such[/bold] file :smile:", "a name\nwith \x1b[31mtwo lines"])
def test_a_message_is_one_line_as_it_is(message, capsys):
    stderr_console().print(line("warning", message), soft_wrap=True)
    expected = message.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert capsys.readouterr().err == f"ipcv: warning: {expected}\n"


def test_a_long_message_stays_on_one_line(capsys):
    stderr_console().print(line("error", "word " * 100), soft_wrap=True)
    assert capsys.readouterr().err.count("\n") == 1


def test_the_facts_name_model_video_and_frames():
    assert [text.plain for text in facts(happenings.answer())] == [
        "ipcv: model: demo, qwen2_vl, 3,812,352 parameters, cpu, float32, not quantised, sdpa attention, revision none",
        "ipcv: video: clip.mp4, 4.00 s, 320 × 240, 25 frames per second, h264 in mp4, read by pyav",
        "ipcv: frames: 0.00, 0.50 s, 576 visual tokens",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "0.000 s"), (0.9994, "0.999 s"), (1, "1.00 s"), (9.99, "9.99 s"), (3600, "3600.0 s")]
)
def test_times_have_three_digits_or_so(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "base", "unit", "text"),
    [
        (0, 1000, "FLOP", "0 FLOP"),
        (999, 1000, "FLOP", "999 FLOP"),
        (1000, 1000, "FLOP", "1.00 kFLOP"),
        (1.5e15, 1000, "FLOP", "1.50 PFLOP"),
        (2e21, 1000, "FLOP", "2000.00 EFLOP"),
        (1023, 1024, "B", "1023 B"),
        (1024**2, 1024, "B", "1.00 MiB"),
    ],
)
def test_large_numbers_have_a_unit(value, base, unit, text):
    assert magnitude(value, base, unit) == text


def test_a_single_pair_is_called_one():
    assert next(iter(comparison(replace(happenings.BASELINE, pairs=1)))).endswith(", 1 pair of runs, median (range)")
