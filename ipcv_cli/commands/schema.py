"""`ipcv schema`: what `--json` and `--json-stream` print, as a JSON schema."""

from typing import Annotated

import typer

from ipcv_cli.choices import exclude
from ipcv_cli.exit import reported


def schema(
    stream: Annotated[
        bool, typer.Option("--json-stream", help="The schema of one line of `ipcv ask --json-stream` instead.")
    ] = False,
    caption: Annotated[bool, typer.Option("--caption", help="The schema of a line of `ipcv caption` instead.")] = False,
    bench: Annotated[bool, typer.Option("--bench", help="The schema of `ipcv bench --json` instead.")] = False,
    models: Annotated[bool, typer.Option("--models", help="The schema of `ipcv models --json` instead.")] = False,
    methods: Annotated[bool, typer.Option("--methods", help="The schema of `ipcv methods --json` instead.")] = False,
    frames: Annotated[bool, typer.Option("--frames", help="The schema of `ipcv frames --json` instead.")] = False,
) -> None:
    """Print the JSON schema of what `ipcv ask --json` prints.

    Example: ipcv schema > answer.schema.json
    """
    with reported():
        from ipcv_cli.display import stdout

        makers = {
            "--caption": (caption, stdout.caption_schema),
            "--bench": (bench, stdout.report_schema),
            "--models": (models, stdout.listing_schema),
            "--methods": (methods, stdout.methods_schema),
            "--frames": (frames, stdout.frames_schema),
        }
        chosen = [name for name, (is_given, _) in makers.items() if is_given]
        for name in chosen[:1]:
            exclude(name, ("--json-stream", stream), *((other, True) for other in chosen[1:]))
        found = makers[chosen[0]][1]() if chosen else stdout.answer_schema(stream=stream)
        stdout.write(stdout.json_text(found, 2))
