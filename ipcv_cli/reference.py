"""The commands and options as Markdown, generated from `--help`: `python -m ipcv_cli.reference`."""

import os
import subprocess
import sys
from collections.abc import Iterator

import typer

from ipcv_cli.main import app, main

WIDTH = 100
FORCING = {"FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE"}  # what would put colours into a pipe


def reference() -> str:
    """The help of `ipcv` and of each of its commands, 100 columns wide and without colours, whatever the terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in FORCING}
    environment |= {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", "from ipcv_cli.reference import print_sections; print_sections()"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, encoding="utf-8")  # noqa: S603
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def commands() -> list[tuple[str, ...]]:
    """The words that name each command, those of the commands in groups included."""
    return [*_commands(app)]


def _commands(group: typer.Typer) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        if command.callback:
            yield (command.name or command.callback.__name__,)
    for inner in group.registered_groups:
        if inner.name and inner.typer_instance:
            yield (inner.name,)
            yield from ((inner.name, *words) for words in _commands(inner.typer_instance))


def print_sections() -> None:
    """Print a section for each command, for whatever terminal there is."""
    for words in ((), *commands()):
        sys.stdout.write(f"### `{' '.join(('ipcv', *words))}`\n\n```text\n")
        main([*words, "--help"])
        sys.stdout.write("```\n\n")


if __name__ == "__main__":
    sys.stdout.write(reference())
