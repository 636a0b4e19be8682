"""What goes to stdout."""

import io
import json
import sys

import happenings
import jsonschema
import pytest

from ipcv.answer import Token
from ipcv_cli.display.stdout import AnswerText, answer_schema, json_line, json_object, write


def test_text_is_the_answer_and_one_newline():
    writer = AnswerText(terminal=False)
    assert [writer(event) for event in happenings.events("re", "d.") if writer(event)] == ["re", "d.", "\n"]


@pytest.mark.parametrize("pieces", [("red.\n",), ("red.", "\n")])
def test_an_answer_that_ends_its_line_itself_gets_no_second_newline(pieces):
    writer = AnswerText(terminal=False)
    assert "".join(map(writer, happenings.events(*pieces))) == "red.\n"


def test_only_a_terminal_is_spared_control_characters():
    event = Token(text="a\x1b[2J\tb\nc")
    assert AnswerText(terminal=True)(event) == "a\\x1b[2J\tb\nc"
    assert AnswerText(terminal=False)(event) == "a\x1b[2J\tb\nc"


def test_json_is_one_object_that_fits_the_schema():
    said = [
        text for event in happenings.events("re", "d.", baseline=happenings.BASELINE) if (text := json_object(event))
    ]
    assert len(said) == 1
    found = json.loads(said[0])
    jsonschema.validate(found, answer_schema(stream=False), jsonschema.Draft202012Validator)
    assert found["answer"] == "red."
    assert found["schema_version"] == 1
    assert found["frames"]["times"] == [0.0, 0.5]
    assert found["savings"]["baseline"]["similarity"] == 0.987


def test_the_schema_rejects_an_answer_with_a_part_missing():
    found = json.loads(json_object(happenings.events("red.")[-1]))
    del found["stages"][2]["flops"]
    with pytest.raises(jsonschema.ValidationError, match="flops"):
        jsonschema.validate(found, answer_schema(stream=False))


def test_every_event_is_a_json_line_that_fits_the_stream_schema():
    events = happenings.events("a\nb", "\x1b\x7f\x9b", warnings=("capped",))
    schema = answer_schema(stream=True)
    for event in events:
        text = json_line(event)
        assert text.count("\n") == 1
        assert text.isascii()
        assert not set(text) & {"\x1b", "\x7f"}
        jsonschema.validate(json.loads(text), schema)
    assert [json.loads(json_line(event))["event"] for event in events] == [
        "opened",
        "frame_batch",
        *["stage"] * 4,
        "token",
        "warning",
        "token",
        "stage",
        "final",
    ]
    assert json.loads(json_line(events[6]))["text"] + json.loads(json_line(events[8]))["text"] == "a\nb\x1b\x7f\x9b"


def test_a_character_that_the_locale_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write("grün\n")
    assert raw.getvalue() == rb"gr\xfcn" + b"\n"


def test_a_closed_stdout_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="it is closed"):
        write("red.\n")
