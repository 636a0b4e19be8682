"""A yes/no question to the person at the terminal."""

import sys
from contextlib import redirect_stdout

import typer

from ipcv.text import visible
from ipcv_cli.display.render import is_terminal
from ipcv_cli.exit import UsageError


def confirm(question: str) -> bool:
    """Ask `question` on stderr; no is the default, and the meaning of Ctrl-D. Ctrl-C raises `KeyboardInterrupt`.

    Raises `UsageError` where nobody could answer.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"{question} There is no terminal to answer on: give --yes if so")
    try:
        with redirect_stdout(sys.stderr):  # `input` writes the last character of its prompt there
            return typer.confirm(f"ipcv: question: {visible(question)}", prompt_suffix=" ", err=True)
    except typer.Abort as error:
        typer.echo(err=True)
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        return False
