"""The JSON lines of the output: one for each answer, and in the file of failures one for each failed video."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from ipcv.answer import Answer
from ipcv.batch.plan import Captioned, Failed
from ipcv.output.journal import Record

MEASURED = ("seconds", "peak_memory")  # of a stage: left empty, so that the same work is the same line


def records(done: Captioned) -> list[Record]:
    """A line for each answer about a video: as `ipcv ask --json` prints it, without measurements, and with its id."""
    return [
        {
            "id": done.item.id,
            "key": done.key,
            "part": index,
            "parts": len(done.parts),
            "start": part.start,
            "end": part.end,
            **_answer(part.answer),
            "data": part.data,
            "problem": part.problem,
        }
        for index, part in enumerate(done.parts)
    ]


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


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = _adapter().dump_python(answer, mode="json")
    for stage in found["stages"]:
        stage.update(dict.fromkeys(MEASURED))
    return found


@cache
def _adapter() -> TypeAdapter[Answer]:
    return TypeAdapter(Answer)
