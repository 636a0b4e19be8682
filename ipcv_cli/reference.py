"""The commands and options as Markdown, generated from `--help`: `python -m ipcv_cli.reference`."""

import os
import subprocess
import sys

WIDTH = 100


def reference() -> str:
    """The help of `ipcv` and of each of its commands, each in a section of its own; the same everywhere."""
    from ipcv_cli.main import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    sections = [f"### `{' '.join(('ipcv', *words))}`\n\n```text\n{_help(*words)}\n```\n" for words in [(), *zip(names)]]
    return "\n".join(sections)


def _help(*command: str) -> str:
    """What a pipe of 100 columns gets from `ipcv COMMAND --help`, whatever the environment says about terminals."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORCE_", "GITHUB_"))}
    environment |= {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "PYTHONIOENCODING": "utf-8", "TERM": "dumb"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "ipcv_cli", *command, "--help"],
        env=environment,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()).strip("\n")


if __name__ == "__main__":
    sys.stdout.write(reference())
