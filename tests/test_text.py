"""Text that is safe to show."""

import pytest

from ipcv.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red circle", "a red circle"),
        ("ein grüner Kreis, 圆, 🔴", "ein grüner Kreis, 圆, 🔴"),
        ("\x1b[2J", r"\x1b[2J"),  # clears the screen
        ("\x9b2J", r"\x9b2J"),  # the same in one C1 byte
        ("a\rb\bc\x7f", r"a\rb\x08c\x7f"),
        ("two\nlines\tand a tab", r"two\nlines\tand a tab"),
        ("cod.\u202e4pm", r"cod.\u202e4pm"),  # would read as .mp4
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("line\u2028separator", r"line\u2028separator"),
        ("bad\udcff.mp4", r"bad\udcff.mp4"),  # an undecodable byte in a file name
    ],
)
def test_control_characters_appear_as_escapes(text, shown):
    assert visible(text) == shown


def test_those_that_are_wanted_stay():
    assert visible("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"
