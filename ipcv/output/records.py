"""The JSON lines of the output: one for each answer, and in the file of failures one for each failed video."""

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ipcv.answer import Answer
from ipcv.batch.plan import Captioned, Failed, Part
from ipcv.output.lines import Record

MEASURED = ("seconds", "peak_memory")  # of a stage: left empty, so that the same work is the same line
FIRST = ("id", "key", "part", "parts", "start", "end")  # fields that a line begins with


@dataclass(frozen=True, kw_only=True)
class Caption(Answer):
    """An answer, and what it belongs to: a line of captions."""

    id: Annotated[str, Field(description="the path as given, or the manifest's id")]
    key: Annotated[str, Field(description="stands for the video's content, the model and all settings")]
    part: Annotated[int, Field(description="of this video's lines, from 0")]
    parts: Annotated[int, Field(description="how many lines this video has")]
    start: Annotated[float, Field(description="of the segment, in seconds of source time")]
    end: float
    data: Annotated[dict[str, Any] | None, Field(description="the JSON object that was asked for")]
    problem: Annotated[str | None, Field(description="why there is none")]


def records(done: Captioned) -> list[Record]:
    """A line for each answer about a video, without the fields of `MEASURED`."""
    return [_record(done, index, part) for index, part in enumerate(done.parts)]


def _record(done: Captioned, index: int, part: Part) -> Record:
    caption = Caption(
        id=done.item.id,
        key=done.key,
        part=index,
        parts=len(done.parts),
        start=part.start,
        end=part.end,
        data=part.data,
        problem=part.problem,
        **{field.name: getattr(part.answer, field.name) for field in fields(Answer)},
    )
    found: Record = _adapter().dump_python(caption, mode="json")
    for stage in found["stages"]:
        stage.update(dict.fromkeys(MEASURED))
    return {name: found.pop(name) for name in FIRST} | found


def failure_record(failed: Failed) -> Record:
    """The line of a failed video in the file of failures."""
    return {
        "id": failed.item.id,
        "key": failed.key,
        "video": failed.item.video,
        "stage": failed.stage,
        "error": failed.error,
        "kind": failed.kind,
        "message": failed.message,
    }


@cache
def _adapter() -> TypeAdapter[Caption]:
    return TypeAdapter(Caption)
