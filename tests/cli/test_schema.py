"""`ipcv schema`."""

import json

import jsonschema
import pytest

from ipcv.answer import SCHEMA_VERSION
from ipcv_cli.main import main


@pytest.mark.parametrize(
    "options", [[], ["--json-stream"], ["--caption"], ["--bench"], ["--models"], ["--methods"], ["--frames"]]
)
def test_it_prints_a_valid_schema_and_nothing_else(options, capsys):
    assert main(["schema", *options]) == 0
    out, err = capsys.readouterr()
    jsonschema.Draft202012Validator.check_schema(json.loads(out))
    assert err == ""


@pytest.mark.parametrize("options", [["--bench", "--models"], ["--models", "--json-stream"], ["--caption", "--bench"]])
def test_two_schemas_at_once_are_a_usage_error(options, capsys):
    assert main(["schema", *options]) == 2
    assert "exclude each other: leave one of them out (see `ipcv schema --help`)" in capsys.readouterr().err


def test_the_schema_names_its_version_and_requires_every_field(capsys):
    main(["schema"])
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == "Answer"
    assert schema["properties"]["schema_version"]["default"] == SCHEMA_VERSION
    assert set(schema["required"]) == set(schema["properties"])
    assert all(set(part["required"]) == set(part["properties"]) for part in schema["$defs"].values())


def test_the_stream_schema_tells_events_apart(capsys):
    main(["schema", "--json-stream"])
    schema = json.loads(capsys.readouterr().out)
    events = {"opened", "frame_batch", "stage", "token", "warning", "final", "error"}
    assert set(schema["discriminator"]["mapping"]) == events
