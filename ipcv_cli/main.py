"""The `ipcv` command: its commands, its version, its exit codes."""

import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ipcv_cli.commands.ask import ask
from ipcv_cli.commands.bench import bench
from ipcv_cli.commands.cache import cache
from ipcv_cli.commands.caption import caption
from ipcv_cli.commands.frames import frames
from ipcv_cli.commands.methods import methods
from ipcv_cli.commands.models import models
from ipcv_cli.commands.schema import schema
from ipcv_cli.commands.world import world
from ipcv_cli.display.stdio import open_closed
from ipcv_cli.exit import USAGE, complain, end_on_sigterm, reported

app = typer.Typer(
    help="Ask a video a question on your own hardware: compressed vision encoding, streamed answers, measured savings.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
app.command()(ask)
app.command()(caption)
app.command()(frames)
app.add_typer(models, name="models")
app.command()(methods)
app.command()(cache)
app.command()(bench)
app.command()(world)
app.command()(schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ipcv {version('ipcv')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", metavar="", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` if there is none) and return its exit code."""
    try:
        with reported():
            return app(args=arguments, prog_name="ipcv", standalone_mode=False) or 0
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        given = sys.argv[1:] if arguments is None else arguments
        command = context.command_path if context else _named(given)  # errors that commands raise have none
        message = error.format_message().replace("Value error, ", "")  # Typer writes that before what was wrong
        message = " ".join(message.split())  # without tabs and line breaks
        complain(f"{message.rstrip('.')} (see `{command} --help`)")
        return error.exit_code


def _named(words: Sequence[str]) -> str:
    """The command in the first words of a command line, as in "ipcv models pull"."""
    groups = {group.name for group in app.registered_groups}
    depth = 2 if groups.intersection(words[:1]) else 1
    return " ".join(["ipcv", *(word for word in words[:depth] if not word.startswith("-"))])


def run() -> None:
    """Run the command line and leave with its exit code. On SIGTERM, open files are closed and helpers ended first."""
    open_closed()
    end_on_sigterm()
    code = main()
    gc.freeze()  # a search for cycles in torch at the end takes longer than an answer
    sys.exit(code)
