"""Text that is safe to show."""

import unicodedata

import pytest

from ipcv.text import as_bytes, shown, visible


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
        ("a\u200eb\u200fc\u061cd", r"a\u200eb\u200fc\u061cd"),  # marks of the direction
        ("a\u200bb\u2060c\ufeffd\xade\u3164f", r"a\u200bb\u2060c\ufeffd\xade\u3164f"),  # nothing is seen of them
        ("hi\U000e0048\U000e0049", r"hi\U000e0048\U000e0049"),  # tags: letters that only a model reads
        ("\U0001f3f4\U000e0067\U000e0062", "\U0001f3f4" r"\U000e0067\U000e0062"),  # no flag
        ("bad\udcff.mp4", r"bad\udcff.mp4"),  # an undecodable byte in a file name
    ],
)
def test_control_characters_appear_as_escapes(text, escaped):
    assert visible(text) == escaped


def test_those_that_are_wanted_stay():
    assert visible("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


FAMILY = "\U0001f469\u200d\U0001f467"  # a woman and a girl, joined into one picture


@pytest.mark.parametrize(
    "hidden", ["\u3164", "\U000e0041", "\u200f", "\xa0", "\u200b", "\u200d", "\x1b", "\u202e", "\udcff"]
)
def test_a_name_shows_all_that_would_be_hidden(hidden):
    assert shown(f"a{hidden}b.mp4") == f"a{ascii(hidden)[1:-1]}b.mp4"


def test_a_sentence_keeps_what_belongs_to_its_writing():
    assert visible(f"ten\xa0km, {FAMILY}") == f"ten\xa0km, {FAMILY}"


SCOTLAND = "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbsct\x7f")


@pytest.mark.parametrize(
    "text",
    [
        f"{SCOTLAND} \u2764\ufe0f 1\ufe0f\u20e3 \U0001f1e9\U0001f1ea \U0001f44b\U0001f3fd",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, whose words have a non-joiner in them
        "\u0915\u094d\u200d\u0937 \u0d28\u0d4d\u200d",  # Hindi and Malayalam with a joiner
        "\u0600\u06f1\u06f2",  # an Arabic sign in front of a number
    ],
)
def test_emoji_and_scripts_stay_readable(text):
    assert visible(text) == text


def test_no_other_format_character_gets_through():
    found = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cf", "Cc", "Cs", "Zl", "Zp")}
    let_through = {char for char in found if visible(char) == char}
    assert let_through == set(
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u200c\u200d\U000110bd\U000110cd"
    )
    assert not {char for char in found if shown(char) == char}


def test_bytes_stand_for_one_text_alone():
    texts = ["a", "\xe9", "\udce9", "\ud800", "\udce9\ud800"]
    assert len({as_bytes(text) for text in texts}) == len(texts)
    assert as_bytes("\udce9") == b"\xe9"
