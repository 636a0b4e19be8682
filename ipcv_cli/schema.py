"""`ipcv schema`: what `--json` and `--json-stream` print, as a JSON schema."""

from typing import Annotated

import typer

from ipcv_cli.failure import reported


def schema(
    stream: Annotated[
        bool, typer.Option("--json-stream", help="The schema of one line of `ipcv ask --json-stream` instead.")
    ] = False,
) -> None:
    """Print the JSON schema of what `ipcv ask --json` prints.

    Example: ipcv schema > answer.schema.json
    """
    with reported():
        from ipcv_cli.output import json_schema, json_text, write

        write(json_text(json_schema(stream=stream), 2))
