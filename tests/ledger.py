"""What was done to `ipcv`, and what came of it: a line for each fault in one file, and the table at the end.

Several processes write the file, each line at once, so that it is complete whenever a run is ended.
"""

import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PLACE = "IPCV_FAULTS_LEDGER"  # the environment variable that names the file


@dataclass(frozen=True)
class Ledger:
    """The file of the faults of a test run."""

    path: Path
    wrong: list[str] = field(default_factory=list)  # what the faults of this test have done

    def note(self, kind: str, survived: int = 0, lost: int = 0) -> None:
        """Write down faults of a `kind`, by what came of them."""
        data = json.dumps({"kind": kind, "survived": survived, "lost": lost}).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, data)
        finally:
            os.close(file)

    def judge(self, kind: str, wrong: Iterable[str], injected: int = 1) -> None:
        """Write down `injected` faults, of which those described in `wrong` were not survived.

        The test fails at its end, so that one fault that is lost does not hide the others.
        """
        found = [f"{kind}: {each}" for each in wrong]
        lost = min(len(found), injected)
        self.note(kind, survived=injected - lost, lost=lost)
        self.wrong.extend(found)

    def table(self) -> list[str]:
        """The lines of the table: kind, injected, survived, lost."""
        if not self.path.exists():
            return []
        survived: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for each in map(json.loads, self.path.read_text().splitlines()):
            survived[each["kind"]] += each["survived"]
            lost[each["kind"]] += each["lost"]
        rows = [("fault", "injected", "survived", "lost")]
        for kind in sorted(survived):
            rows.append((kind, *(f"{n:,}" for n in (survived[kind] + lost[kind], survived[kind], lost[kind]))))
        width = max(len(row[0]) for row in rows)
        return [f"{kind:{width}}  {a:>8}  {b:>8}  {c:>6}" for kind, a, b, c in rows]


def pytest_configure(config: pytest.Config) -> None:
    """One file for all processes of the run: the first of them names it, and the others inherit the name.

    A long run that is ended by SIGTERM ends as with Ctrl-C, with its table.
    """
    if PLACE not in os.environ:
        os.environ[PLACE] = str(Path(tempfile.mkdtemp(prefix="faults-")) / "ledger.jsonl")
        if config.option.markexpr == "faults":
            signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `timeout` sends it twice
    signal.raise_signal(signal.SIGINT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, also of a run that is interrupted."""
    if table := Ledger(Path(os.environ[PLACE])).table():
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(table))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Where a test writes down its faults."""
    found = Ledger(Path(os.environ[PLACE]))
    yield found
    if found.wrong:
        pytest.fail("\n".join(found.wrong[:60]), pytrace=False)
