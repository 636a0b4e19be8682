"""Text that is safe to show."""

import pytest

from ipcv.text import shown, visible


@pytest.mark.parametrize(
    ("text", "escaped"),
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
def test_control_characters_appear_as_escapes(text, escaped):
    assert visible(text) == escaped


def test_those_that_are_wanted_stay():
    assert visible("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


FAMILY = "\U0001f469\u200d\U0001f467"  # a woman and a girl, joined into one picture


@pytest.mark.parametrize("hidden", ["\xa0", "\u200b", "\u200d", "\x1b", "\u202e", "\udcff"])
def test_a_name_shows_all_that_would_be_hidden(hidden):
    assert shown(f"a{hidden}b.mp4") == f"a{ascii(hidden)[1:-1]}b.mp4"


def test_a_sentence_keeps_what_belongs_to_its_writing():
    assert visible(f"ten\xa0km, {FAMILY}") == f"ten\xa0km, {FAMILY}"
