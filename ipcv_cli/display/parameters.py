"""Messages of the library in the words of the command line: `max_pixels` becomes `--max-pixels`."""

import re

# parameters that messages name, and that the command line has an option for; those with "_" are told from plain words
PARAMETERS = (
    *("max_frames", "max_pixels", "max_visual_tokens", "frame_batch", "max_new_tokens", "batch_size"),
    *("max_download", "max_failures", "allow_private", "output_dir", "retry_failed", "cache_limit"),
    *(
        "device",
        "dtype",
        "fit",
        "fps",
        "neighbors",
        "offline",
        "quality",
        "quant",
        "reuse",
        "revision",
        "seed",
        "stabilize",
        "stabilizer",
        "temperature",
        "baseline",
        "repeats",
    ),
    *("actors", "exclude", "failures", "glob", "limit", "output", "overwrite", "parquet", "prefetch", "readers"),
    "timeout",
)
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in PARAMETERS} | {"name": "--model", "sidecars": "--sidecar"}

QUOTES = "\"'"
_NAMES = "|".join(OPTIONS)
_VALUE = r"""=(?P<value>"[^"]*"|'[^']*'|[^\s,;:`]+)"""
_OF_BENCH = "in the setting '"
_PARAMETER = re.compile(rf"(?<![\w./=\\'\"-])(?P<tick>`?)(?P<name>{_NAMES})(?:{_VALUE})?(?P=tick)(?![\w./=\\'\"-])")


def as_options(message: str) -> str:
    """`message` with options in place of the library's parameters.

    A parameter is recognised by an underscore, a value or backticks: other words may be plain English. The settings of
    `ipcv bench` have the library's own names, as in `coverage:reuse=0.02`: what is said about one stays.

    >>> as_options('lower max_pixels, try `quant="4bit"`, or do without `fit`: batch_size=0 must be at least 1')
    'lower --max-pixels, try --quant 4bit, or do without --fit: --batch-size 0 must be at least 1'
    """
    return message if _OF_BENCH in message else _PARAMETER.sub(_option, message)


def _option(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if not (found["tick"] or value or "_" in name):
        return found[0]
    return OPTIONS[name] if value in (None, "True") else f"{OPTIONS[name]} {value.strip(QUOTES)}"
