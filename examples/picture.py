"""Draw the README's picture of a terminal from a real run of the demo model.

Example: python examples/picture.py examples/ask.svg
"""

import io
import sys
from pathlib import Path

from rich.console import Console

import ipcv
from ipcv.answer import Final
from ipcv_cli.display.render import line, summary

QUESTION = "What colour is the circle?"


def main() -> None:
    clip = Path(__file__).with_name("clip.mp4")
    model = ipcv.load("demo")
    *_, last = model.stream(clip, QUESTION)
    if not isinstance(last, Final):
        raise TypeError(last)
    terminal = Console(record=True, width=90, file=io.StringIO(), force_terminal=True, markup=False, highlight=False)
    terminal.print(f'$ ipcv ask examples/clip.mp4 "{QUESTION}" --model demo', style="bold")
    for warning in last.answer.warnings:
        terminal.print(line("warning", warning))
    terminal.print(last.answer.answer)
    terminal.print(summary(last.answer))
    Path(sys.argv[1]).write_text(terminal.export_svg(title="ipcv ask"), encoding="utf-8")


if __name__ == "__main__":
    main()
