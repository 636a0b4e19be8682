"""`ipcv schema`: what `--json` and `--json-stream` print, as a JSON schema."""

from typing import Annotated

import typer

from ipcv_cli.choices import exclude
from ipcv_cli.failure import reported


def schema(
    stream: Annotated[
        bool, typer.Option("--json-stream", help="The schema of one line of `ipcv ask --json-stream` instead.")
    ] = False,
    caption: Annotated[bool, typer.Option("--caption", help="The schema of a line of `ipcv caption` instead.")] = False,
    bench: Annotated[bool, typer.Option("--bench", help="The schema of `ipcv bench --json` instead.")] = False,
) -> None:
    """Print the JSON schema of what `ipcv ask --json` prints.

    Example: ipcv schema > answer.schema.json
    """
    with reported():
        from ipcv_cli.output import caption_schema, json_schema, json_text, report_schema, write

        if bench:
            exclude("--bench", ("--json-stream", stream), ("--caption", caption))
        if caption:
            exclude("--caption", ("--json-stream", stream))
        found = report_schema() if bench else caption_schema() if caption else json_schema(stream=stream)
        write(json_text(found, 2))
