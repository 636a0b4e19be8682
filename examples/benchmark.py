"""Measure what compression costs in answers: the demo model on held-out questions, with and without it.

Writes benchmark.json and benchmark.svg beside this script, and its tables into examples/README.md, between two marks.

Example: python examples/benchmark.py --questions 2002 --compared 550 --settings dense,coverage,fast,careful
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from publish import commit_date, machine, publish
from pydantic import TypeAdapter

import ipcv
from ipcv.benchmark.benchmark import bench
from ipcv.benchmark.report import Report
from ipcv.benchmark.settings import parse_settings
from ipcv_cli.display.bench_report import WIDTH, plot, report_table

MODEL = "dense,file,other"  # whether it is right, also through a file, and whether that is because of what it sees
SETTINGS = "dense,coverage,fast,careful,coverage@0.1,coverage@0.35:layer=3:stabilizer=states:reuse=0,paper,frames@0.7"
JSON = Path(__file__).with_name("benchmark.json")
PLOT = JSON.with_suffix(".svg")
MARKS = ("<!-- benchmark.json, by examples/benchmark.py -->\n", "<!-- end of benchmark.json -->\n")


def table(stored: dict) -> str:
    """The tables of `examples/README.md`, from what `benchmark.json` holds."""
    reports = [TypeAdapter(Report).validate_python(report) for report in stored["reports"]]
    where = f"commit of {stored['commit_date']}, {stored['minutes']} minutes on {stored['machine']}"
    tables = "\n".join(report_table(report, WIDTH) for report in reports)
    return f"```text\n$ {stored['command']}\n{where}\n\n{tables}```\n"


def measured(model: ipcv.Model, questions: int, settings: str) -> Report:
    """Measure some settings, with a word on stderr every hundred questions."""
    began = time.monotonic()
    for step in bench(model, questions, parse_settings(settings)):
        if isinstance(step, Report):
            return replace(step, scores=tuple(replace(score, changed=()) for score in step.scores))
        if step % 100 == 0:
            print(f"{step} questions in {time.monotonic() - began:.0f} s", file=sys.stderr)
    raise RuntimeError("a benchmark ends with its report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2002, help=f"for {MODEL}")
    parser.add_argument("--compared", type=int, default=550, help="for all the settings that save work")
    parser.add_argument("--settings", default=SETTINGS, help="these, as in `ipcv bench`")
    args = parser.parse_args()
    command = f"python examples/benchmark.py --questions {args.questions} --compared {args.compared}"
    command += f" --settings {args.settings}" if args.settings != SETTINGS else ""
    began, model = time.monotonic(), ipcv.load("demo")
    reports = [measured(model, args.questions, MODEL), measured(model, args.compared, args.settings)]
    stored = {
        "command": command,
        "commit_date": commit_date(),
        "machine": machine(),
        "minutes": round((time.monotonic() - began) / 60),
        "reports": [asdict(report) for report in reports],
    }
    JSON.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    plot(reports[1], PLOT)
    publish(MARKS, table(stored))
    print(table(stored))


if __name__ == "__main__":
    main()
