"""What stderr shows while a question is answered, and that it leaves stdout alone."""

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

import happenings
import pytest
from happenings import SUMMARY
from terminals import Terminal

from ipcv.answer import Event, Warned
from ipcv_cli.commands.ask import choose_writer, follow
from ipcv_cli.display.ask_view import View

CAPPED = "capped: 8 of 90 frames"
VERBOSE = """\
ipcv: read: 0.041 s, 8 frames
ipcv: preprocess: 0.010 s, 8 frames
ipcv: encode: 4.20 s, 2,304 → 806 patches, 47.00 GFLOP, 47%
ipcv: prefill: 1.50 s, 640 → 352 tokens, 9.00 GFLOP, 90%, 3.00 GiB
ipcv: generate: 75.0 s, 2 tokens, 1.00 MFLOP, 100%
ipcv: model: demo, qwen2_vl, 3,812,352 parameters, cpu, float32, not quantised, sdpa attention, revision none
ipcv: video: clip.mp4, 4.00 s, 320 × 240, 25 frames per second, h264 in mp4, read by pyav
ipcv: frames: 0.00, 0.50 s, 576 visual tokens
ipcv: savings: computed: 51% of the uncompressed FLOPs in all, 55% of the key-value cache
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def tell(events: Iterable[Event], *, as_json: bool = False, json_stream: bool = False, **options: bool) -> None:
    """Show `events` as `ipcv ask` does."""
    with View(**options) as view:
        view.status("loading demo")
        follow((event for event in events), choose_writer(json=as_json, json_stream=json_stream), view)


def on_terminal(events: Iterable[Event], stdout: TextIO | None = None, **options: bool) -> Terminal:
    """What is seen of `events` with stderr on a terminal, and stdout as well unless it goes to a file."""
    with Terminal() as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.file)
        patch.setattr(sys, "stdout", stdout or terminal.file)
        tell(events, **options)
    return terminal


def slowly(events: Iterable[Event]) -> Iterator[Event]:
    """Events with time between them for the live view to be drawn."""
    for event in events:
        yield event
        time.sleep(0.2)


def test_on_one_terminal_the_answer_streams_between_live_view_and_table():
    terminal = on_terminal(slowly(happenings.events("It is ", "red,\n", "surely.", warnings=(CAPPED,))))
    screen = terminal.screen.splitlines()
    assert screen[:3] == ["It is red,", "surely.", f"ipcv: warning: {CAPPED}"]
    assert "\n".join(screen[3:]) == SUMMARY
    assert terminal.received.index(b"8 of 8 frames") < terminal.received.index(b"It is ")
    assert terminal.cursor_is_visible


def test_with_stdout_in_a_file_the_live_view_goes_on_and_the_file_holds_the_answer(tmp_path):
    with (tmp_path / "answer.txt").open("w") as file:
        terminal = on_terminal(slowly(happenings.events("re", "d.", warnings=(CAPPED,))), file)
    assert (tmp_path / "answer.txt").read_text() == "red.\n"
    assert terminal.screen == f"ipcv: warning: {CAPPED}\n{SUMMARY}"
    assert b"2 tokens" in terminal.received.partition(b"demo on cpu")[0]


def test_warnings_before_the_answer_appear_at_once_above_the_live_view():
    early, late = Warned(message="the model is small"), Warned(message=CAPPED)
    opened, batch, *others = happenings.events("red.")
    terminal = on_terminal(slowly([early, opened, batch, late, *others]))
    assert terminal.screen == f"ipcv: warning: the model is small\nipcv: warning: {CAPPED}\nred.\n{SUMMARY}"
    assert terminal.received.index(CAPPED.encode()) < terminal.received.index(b"red.")


def test_json_on_a_terminal_is_not_cut_by_the_live_view():
    terminal = on_terminal(slowly(happenings.events("red.")), as_json=True)
    text, _, table = terminal.screen.partition("\n}\n")
    assert b"8 of 8 frames" in terminal.received
    assert '"warnings": []' in text
    assert table == SUMMARY


def test_json_lines_on_a_terminal_come_without_a_live_view():
    terminal = on_terminal(slowly(happenings.events("red.")[:7]), json_stream=True)
    assert [row[:9] for row in terminal.screen.splitlines() if row.startswith("{")] == ['{"event":'] * 7
    assert b"of 8 frames" not in terminal.received


def test_control_characters_do_not_reach_a_terminal():
    terminal = on_terminal(happenings.events("re\x1b[2Jd", "\r\x9b2J.", warnings=("bad\x1b]0;name\x07",)))
    rows = terminal.screen.splitlines()
    assert rows[:2] == [r"re\x1b[2Jd\r\x9b2J.", r"ipcv: warning: bad\x1b]0;name\x07"]


def test_the_uncompressed_run_is_announced_while_it_lasts():
    events = happenings.events("red.", baseline=happenings.BASELINE)
    terminal = on_terminal(events, baseline=True)
    assert b"running the uncompressed model" in terminal.received
    assert "running the uncompressed model" not in terminal.screen
    assert "encode 2.10× (2.00–2.30), faster: 4.00 s against 8.40 s" in terminal.screen


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError("broken")])
@pytest.mark.parametrize("after", [2, 9])
def test_whatever_stops_it_the_terminal_is_left_tidy(stop, after):
    def broken() -> Iterator[Event]:
        yield from slowly(happenings.events("re", "d.", warnings=(CAPPED,))[:after])
        raise stop

    with Terminal() as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.file)
        patch.setattr(sys, "stdout", terminal.file)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            tell(broken())
        terminal.file.write("$ ")
    assert terminal.screen == ("$" if after == 2 else f"red.\nipcv: warning: {CAPPED}\n$")
    assert terminal.cursor_is_visible


@pytest.mark.parametrize("how", ["option", "NO_COLOR"])
def test_no_color_means_no_colour(how, monkeypatch):
    events = happenings.events("red.", warnings=(CAPPED,))
    colour = re.compile(rb"\x1b\[[0-9;]*3[0-9]")
    assert colour.search(on_terminal(events).received)
    if how == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(on_terminal(events, no_color=how == "option").received)


def test_a_dumb_terminal_gets_the_table_and_no_animation(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = on_terminal(slowly(happenings.events("red.")))
    assert terminal.screen == f"red.\n{SUMMARY}"
    assert b"\x1b" not in terminal.received


def test_pipes_get_the_answer_and_plain_warnings(capsys):
    tell(happenings.events("re\x1b", "d.", warnings=(CAPPED,)))
    assert capsys.readouterr() == ("re\x1bd.\n", f"ipcv: warning: {CAPPED}\n")


def test_pipes_get_the_stages_too_if_verbose(capsys):
    tell(happenings.events("red."), verbose=True)
    out, err = capsys.readouterr()
    assert out == "red.\n"
    assert err == VERBOSE


def test_quiet_leaves_only_the_answer(capsys):
    events = happenings.events("red.", warnings=(CAPPED,))
    tell(events, quiet=True)
    assert capsys.readouterr() == ("red.\n", "")
    assert on_terminal(events, quiet=True).received == b"red.\r\n"


def test_quiet_json_keeps_the_warnings(capsys):
    tell(happenings.events("red.", warnings=(CAPPED,)), quiet=True, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"] == [CAPPED]
    assert err == ""


def test_a_closed_stderr_is_no_problem(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    tell(happenings.events("red.", warnings=(CAPPED,)), verbose=True)
