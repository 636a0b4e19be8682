"""The output of commands on stdout: an answer as text, JSON objects and lines, and JSON schemas."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ipcv.text import visible
from ipcv_cli.display.render import is_terminal
from ipcv_cli.display.stdio import check_stdout

if TYPE_CHECKING:  # these import torch, which not every command needs
    from ipcv.answer import Event
    from ipcv.benchmark.report import Report
    from ipcv.compression.catalog import MethodListing
    from ipcv.media.frame_files import ShownFrames
    from ipcv.models.catalog import Listing

Writer = Callable[["Event"], str]  # gives the text that an event adds to stdout


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The last event of a stream without an answer; stderr has the message as well."""

    event: Literal["error"] = "error"
    message: str
    exit_code: int


class AnswerText:
    """Writes the answer as text while it is generated, and a newline at the end.

    On a `terminal`, control characters other than newline and tab appear as escapes; elsewhere the text is untouched.
    """

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._last = ""  # piece of the answer that was written

    def __call__(self, event: "Event") -> str:
        """The text that an event adds to the answer."""
        if event.event == "token":
            self._last = event.text
            return visible(event.text, keep="\n\t") if self._terminal else event.text
        if event.event == "stage" and event.stage.name == "generate":
            return "" if self._last.endswith("\n") else "\n"
        return ""


def json_object(event: "Event") -> str:
    """The answer as one JSON object, at the last event."""
    from ipcv.answer import Answer

    return json_text(_adapter(Answer).dump_python(event.answer, mode="json"), 2) if event.event == "final" else ""


def report_object(report: "Report") -> str:
    """A benchmark as one JSON object."""
    from ipcv.benchmark.report import Report

    return json_text(_adapter(Report).dump_python(report, mode="json"), 2)


def listing_object(listing: "Listing") -> str:
    """The list of models as one JSON object."""
    from ipcv.models.catalog import Listing

    return json_text(_adapter(Listing).dump_python(listing, mode="json"), 2)


def methods_object(listing: "MethodListing") -> str:
    """The methods there are as one JSON object."""
    from ipcv.compression.catalog import MethodListing

    return json_text(_adapter(MethodListing).dump_python(listing, mode="json"), 2)


def frames_object(frames: "ShownFrames") -> str:
    """The frames that a model is shown as one JSON object."""
    from ipcv.media.frame_files import ShownFrames

    return json_text(_adapter(ShownFrames).dump_python(frames, mode="json"), 2)


def json_line(event: "Event | Failed") -> str:
    """An event as a line of JSON."""
    from ipcv.answer import Event

    return json_text(_adapter(Event | Failed).dump_python(event, mode="json"))


def answer_schema(*, stream: bool) -> dict[str, Any]:
    """The JSON schema of an answer, or of a line of the stream."""
    from ipcv.answer import Answer, Event

    return _schema(Annotated[Event | Failed, Field(discriminator="event")] if stream else Answer)


def caption_schema() -> dict[str, Any]:
    """The JSON schema of a line of captions."""
    from ipcv.output.records import Caption

    return _schema(Caption)


def report_schema() -> dict[str, Any]:
    """The JSON schema of a benchmark."""
    from ipcv.benchmark.report import Report

    return _schema(Report)


def listing_schema() -> dict[str, Any]:
    """The JSON schema of a list of models."""
    from ipcv.models.catalog import Listing

    return _schema(Listing)


def methods_schema() -> dict[str, Any]:
    """The JSON schema of a list of methods."""
    from ipcv.compression.catalog import MethodListing

    return _schema(MethodListing)


def frames_schema() -> dict[str, Any]:
    """The JSON schema of the frames that a model is shown."""
    from ipcv.media.frame_files import ShownFrames

    return _schema(ShownFrames)


def _schema(kind: Any) -> dict[str, Any]:
    found = TypeAdapter[Any](kind).json_schema(mode="serialization", schema_generator=_Everything)
    if stage := found.get("$defs", {}).get("Stage"):
        # `ipcv caption` leaves out what was measured, so that the same work gives the same line
        stage["properties"]["seconds"] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    return found


def json_text(value: object, indent: int | None = None) -> str:
    """`value` as JSON in ASCII: valid in every locale, and nothing in it can command a terminal."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f") + "\n"


def write(text: str) -> None:
    """Write `text` to stdout at once. Characters outside the locale's encoding are escaped.

    Raises `OSError` where it cannot be written, also because stdout is closed.
    """
    check_stdout()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text)
    sys.stdout.flush()


def write_path(path: Path) -> None:
    """Write `path` and a newline. On a terminal, control characters are escaped."""
    text = str(path)
    write(f"{visible(text) if is_terminal(sys.stdout) else text}\n")


class _Everything(GenerateJsonSchema):
    """Requires every field, also those with a default: none is ever left out."""

    def field_is_required(self, *_: object, **__: object) -> bool:
        """Always."""
        return True


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
