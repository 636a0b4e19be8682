"""Measure the demo model on held-out questions under many settings: the README's table and plot.

Writes benchmark.json and benchmark.svg beside this script, and the table into the README between its two marks.

Example: python examples/benchmark.py --questions 2002
"""

import argparse
import json
import os
import platform
import subprocess
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

import ipcv
from ipcv.bench import Report, bench
from ipcv.settings import parse_settings
from ipcv_cli.report import plot, report_table

SETTINGS = (
    "dense,file,paper,paper@0.2,paper@0.1,paper+dart@0.5,frames@0.7,frames@0.5,pixels@0.64,pixels@0.36,grey,other"
)
JSON = Path(__file__).with_name("benchmark.json")
PLOT = JSON.with_suffix(".svg")
README = JSON.parent.parent / "README.md"
MARKS = ("<!-- benchmark.json, by examples/benchmark.py -->\n", "<!-- end of benchmark.json -->\n")


def table(stored: dict) -> str:
    """The README's block for what `benchmark.json` holds."""
    report = TypeAdapter(Report).validate_python(stored["report"])
    where = f"commit of {stored['commit_date']}; {stored['machine']}"
    return f"```text\n$ {stored['command']}\n{where}\n\n{report_table(report)}```\n"


def put_into_readme(stored: dict) -> None:
    """Replace what is between the two marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{MARKS[0]}\n{table(stored)}\n{MARKS[1]}{after}", encoding="utf-8")


def machine() -> str:
    """Processor, threads and library versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{os.cpu_count()} cores of {processor}, torch {version('torch')}, transformers {version('transformers')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2002)
    parser.add_argument("--settings", default=SETTINGS)
    args = parser.parse_args()
    *_, report = bench(ipcv.load("demo"), args.questions, parse_settings(args.settings))
    if not isinstance(report, Report):
        raise TypeError(report)
    date = subprocess.run(["git", "log", "-1", "--format=%cs"], capture_output=True, text=True, check=True)  # noqa: S607
    short = replace(report, scores=tuple(replace(score, changed=()) for score in report.scores))
    stored = {
        "command": f"python examples/benchmark.py --questions {args.questions}",
        "commit_date": date.stdout.strip(),
        "machine": machine(),
        "report": asdict(short),
    }
    JSON.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    plot(report, PLOT)
    put_into_readme(stored)
    print(table(stored))


if __name__ == "__main__":
    main()
