"""A share of tokens as a number of tokens."""


def kept_count(tokens: int, keep: float) -> int:
    """The share `keep` of `tokens`, rounded down as in IPCV's published code."""
    return int(tokens * keep)
