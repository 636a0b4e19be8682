"""A question to whoever sits at the terminal."""

import sys

from ipcv_cli.display.render import is_terminal, line, stderr_console
from ipcv_cli.exit import UsageError


def agreed(question: str, *, no_color: bool) -> bool:
    """Whether the answer to `question`, asked on stderr, is yes; anything else is no.

    Raises `UsageError` where nobody could answer.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"{question} There is no terminal to answer on: give --yes if so")
    console = stderr_console(no_color=no_color)
    console.print(line("question", f"{question} [y/N] "), end="", soft_wrap=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # it was Ctrl-C or Ctrl-D
            console.print()
    return answer.strip().lower() in ("y", "yes")
