"""Write a measurement into examples/README.md, with the day and the machine that it was made on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
Marks = tuple[str, str]


def publish(marks: Marks, block: str) -> None:
    """Replace the text between two marks of the page with `block`."""
    before, first, rest = PAGE.read_text(encoding="utf-8").partition(marks[0])
    _, second, after = rest.partition(marks[1])
    if not (first and second):
        raise ValueError(f"{PAGE} lacks the marks that the table goes between: {marks[0].strip()}")
    PAGE.write_text(f"{before}{first}\n{block}\n{second}{after}", encoding="utf-8")


def commit_date() -> str:
    """The day of the commit that is measured."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%cs"],  # noqa: S607
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def machine() -> str:
    """Processor, cores and library versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} cores of {processor}, torch {version('torch')}, transformers {version('transformers')}"
