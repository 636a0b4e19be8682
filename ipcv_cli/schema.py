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
    models: Annotated[bool, typer.Option("--models", help="The schema of `ipcv models --json` instead.")] = False,
) -> None:
    """Print the JSON schema of what `ipcv ask --json` prints.

    Example: ipcv schema > answer.schema.json
    """
    with reported():
        from ipcv_cli import output

        others = {"--caption": caption, "--bench": bench, "--models": models}
        chosen = [name for name, given in others.items() if given]
        for name in chosen:
            exclude(name, ("--json-stream", stream), *((other, others[other]) for other in chosen if other != name))
        makers = {
            "--caption": output.caption_schema,
            "--bench": output.report_schema,
            "--models": output.listing_schema,
        }
        found = makers[chosen[0]]() if chosen else output.json_schema(stream=stream)
        output.write(output.json_text(found, 2))
