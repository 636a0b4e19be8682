"""The options of `ipcv caption`, in the library's terms."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipcv_cli.exit import UsageError

if TYPE_CHECKING:
    from ipcv.batch.inputs import Inputs
    from ipcv.batch.plan import Plan
    from ipcv.options import Options


def inputs(
    sources: Sequence[str],
    *,
    nul: bool,
    glob: Sequence[str],
    exclude: Sequence[str],
    limit: int | None,
    shard: str | None,
) -> "Inputs":
    """The videos, with a list from stdin in place of "-". Raises `UsageError` or `ValueError` for bad options."""
    from ipcv.batch.inputs import Inputs, split_list

    if nul and "-" not in sources:
        raise UsageError("-0 is about a list on stdin: give - for it")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be at least 1")
    found: list[str] = []
    for source in sources:
        found += split_list(_stdin(nul=nul), nul=nul) if source == "-" else [source]
    return Inputs(
        sources=tuple(found),
        glob=tuple(glob),
        exclude=tuple(exclude),
        shard=_shard(shard) if shard else None,
        limit=limit,
    )


def plan(
    options: "Options", prompt: str | None, style: str | None, questions: list[str], segments: str | None
) -> "Plan":
    """The plan of a run. Raises `UsageError` or `ValueError` for bad options."""
    from ipcv.batch.plan import Plan
    from ipcv.batch.prompts import DEFAULT_PROMPT, JSON, READY_MADE
    from ipcv.media.segments import Segments

    first = [READY_MADE[style]] if style else [] if prompt is None else [prompt]
    for text in (*first, *questions):
        if not text.strip():
            raise UsageError("the question is empty")
    return Plan(
        questions=tuple(dict.fromkeys([*first, *questions])) or (DEFAULT_PROMPT,),
        structured=style == JSON,
        segments=Segments.parse(segments) if segments else None,
        options=options,
    )


def output(path: Path | None) -> Path | None:
    """Where lines go: "-" for stdout by any of its names."""
    from ipcv.output.streams import is_stdout

    return Path("-") if path and is_stdout(path) else path


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard {text} makes no sense: write 1/4 for the first of four parts")
    return int(index), int(count)


def _stdin(*, nul: bool) -> bytes:
    if sys.stdin is None:
        raise UsageError("the list was to come from stdin, which is closed")
    data = sys.stdin.buffer.read()
    if b"\0" in data and not nul:
        raise UsageError("the list on stdin has NUL characters: give -0 if they end its paths")
    return data
