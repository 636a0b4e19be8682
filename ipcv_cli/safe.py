"""Text from models, files and users, made safe to show."""

import re

# what a terminal would obey rather than show: C0 and C1 controls, separators, overrides of the writing direction,
# and the stand-ins for undecodable bytes in file names
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, keep: str = "") -> str:
    r"""`text` with every control character as an escape such as `\x1b`, except those in `keep`.

    >>> visible("red\x1b[2J")
    'red\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
