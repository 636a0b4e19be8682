"""Measure the demo model on held-out questions under many settings: the README's table and plot.

Writes benchmark.json and benchmark.svg beside this script, and the table into the README between its two marks.

Example: python examples/benchmark.py --questions 550
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from publish import commit_date, machine, put_into_readme
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
MARKS = ("<!-- benchmark.json, by examples/benchmark.py -->\n", "<!-- end of benchmark.json -->\n")


def table(stored: dict) -> str:
    """The README's block for what `benchmark.json` holds."""
    report = TypeAdapter(Report).validate_python(stored["report"])
    where = f"commit of {stored['commit_date']}, {stored['minutes']} minutes on {stored['machine']}"
    return f"```text\n$ {stored['command']}\n{where}\n\n{report_table(report)}```\n"


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
            put_into_readme(MARKS, table(stored))
            print(table(stored))
        elif step % 100 == 0:
            print(f"{step} questions in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
