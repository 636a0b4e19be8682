r"""Text that is safe to print: file names and model answers, in which no character can steer a terminal or hide.

`shown` is for names, `visible` for sentences. A name may hold anything, and an invisible character in it should be
seen: `shown` escapes all that Python does not call printable, such as a no-break space. A sentence may use such
characters rightly: `visible` lets no-break spaces through, the two joiners that emoji of several parts and Arabic and
Indic words are written with, the variation selectors of emoji, the signs that stand before numbers in Arabic and
other scripts, and the flags of England, Scotland and Wales, which are spelt with tags. It escapes what a terminal
obeys and whatever else is there without being seen: marks of the writing direction, spaces without width, tags.
"""

import re
from pathlib import Path

# C0 and C1 controls, line and paragraph separators, and the stand-ins for bytes of a file name that are no text
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
# format characters and fillers that are seen nowhere: soft hyphen, direction, zero width, shorthand, music, tags
_HIDDEN = (
    "\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_FLAGS = "|".join(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in f"gb{land}\x7f") for land in ("eng", "sct", "wls")
)
_UNSEEN = re.compile(f"{_FLAGS}|[{_CONTROLS}{_HIDDEN}]")


def shown(path: str | Path) -> str:
    r"""A file name or address with every unprintable character as an escape such as `\xa0`.

    >>> shown("clip\xa0one.mp4")
    'clip\\xa0one.mp4'
    """
    return "".join(c if c.isprintable() and not _UNSEEN.match(c) else ascii(c)[1:-1] for c in str(path))


def visible(text: str, *, keep: str = "") -> str:
    r"""A sentence with every character that steers or hides as an escape such as `\x1b`, except those in `keep`.

    >>> visible("red\x1b[2J")
    'red\\x1b[2J'
    """

    def escaped(found: re.Match[str]) -> str:
        is_flag = len(found[0]) > 1
        return found[0] if is_flag or found[0] in keep else ascii(found[0])[1:-1]

    return _UNSEEN.sub(escaped, text)


def as_bytes(text: str) -> bytes:
    """Bytes that stand for `text` alone, whatever is in it: a file name that is no text, or half of a character."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
