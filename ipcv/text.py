r"""Text that is safe to print: file names and model answers, in which no character can steer a terminal.

`shown` is for names, `visible` for sentences. A name may hold anything, and an invisible character in it should be
seen: `shown` escapes all that Python does not call printable, such as a no-break space. A sentence may use such
characters rightly, as in an emoji of several parts: `visible` escapes only the characters that a terminal obeys.
"""

import re
from pathlib import Path

# C0 and C1 controls, line and paragraph separators, overrides of the writing direction, and the stand-ins for bytes
# of a file name that are no text
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(path: str | Path) -> str:
    r"""A file name or address with every unprintable character as an escape such as `\xa0`.

    >>> shown("clip\xa0one.mp4")
    'clip\\xa0one.mp4'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def visible(text: str, *, keep: str = "") -> str:
    r"""A sentence with every character that a terminal obeys as an escape such as `\x1b`, except those in `keep`.

    >>> visible("red\x1b[2J")
    'red\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
