"""Measure the demo model on held-out questions under many settings: the README's table and plot.

Writes benchmark.json and benchmark.svg beside this script, and the table into the README between its two marks.

Example: python examples/benchmark.py --questions 550
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

import ipcv
from ipcv.bench import Report, bench
from ipcv.settings import parse_settings
from ipcv_cli.report import plot, report_table

SETTINGS = (
    "dense,file,coverage,coverage@0.2,coverage@0.1,coverage+dart@0.5,paper,paper@0.2,paper@0.1,"
    "frames@0.7,pixels@0.64,grey,other"
)
JSON = Path(__file__).with_name("benchmark.json")
PLOT = JSON.with_suffix(".svg")
README = JSON.parent.parent / "README.md"
MARKS = ("<!-- benchmark.json, by examples/benchmark.py -->\n", "<!-- end of benchmark.json -->\n")


def table(stored: dict) -> str:
    """The README's block for what `benchmark.json` holds."""
    report = TypeAdapter(Report).validate_python(stored["report"])
    where = f"commit of {stored['commit_date']}, {stored['minutes']} minutes on {stored['machine']}"
    return f"```text\n$ {stored['command']}\n{where}\n\n{report_table(report)}```\n"


def put_into_readme(stored: dict) -> None:
    """Replace what is between the two marks."""
    before, first, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not (first and second):
        raise ValueError(f"{README} lacks the marks that the table goes between")
    README.write_text(f"{before}{first}\n{table(stored)}\n{second}{after}", encoding="utf-8")


def commit_date() -> str:
    """The day of the commit that is measured."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%cs"],  # noqa: S607
        cwd=JSON.parent,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=550)
    args = parser.parse_args()
    stored = {
        "command": f"python examples/benchmark.py --questions {args.questions}",
        "commit_date": commit_date(),
        "machine": machine(),
    }
    began = time.monotonic()
    for step in bench(ipcv.load("demo"), args.questions, parse_settings(SETTINGS)):
        if isinstance(step, Report):
            stored["minutes"] = round((time.monotonic() - began) / 60)
            stored["report"] = asdict(replace(step, scores=tuple(replace(score, changed=()) for score in step.scores)))
            JSON.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
            plot(step, PLOT)
            put_into_readme(stored)
            print(table(stored))
        elif step % 100 == 0:
            print(f"{step} questions in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
