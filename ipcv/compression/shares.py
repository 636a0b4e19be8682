"""How many tokens a share comes to."""


def kept_count(tokens: int, keep: float) -> int:
    """How many of `tokens` are kept at the share `keep`: rounded down, as in the paper's code."""
    return int(tokens * keep)
