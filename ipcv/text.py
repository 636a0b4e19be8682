"""Text that is safe to show: names and answers as one printable line."""

import re
from pathlib import Path

# what a terminal would obey rather than show: C0 and C1 controls, separators, overrides of the writing direction,
# and the stand-ins for undecodable bytes in file names
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(path: str | Path) -> str:
    """A file name that is safe to print: control characters and undecodable bytes appear as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def visible(text: str, *, keep: str = "") -> str:
    r"""`text` with every control character as an escape such as `\x1b`, except those in `keep`.

    >>> visible("red\x1b[2J")
    'red\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
