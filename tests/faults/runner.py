"""`ipcv` in processes of its own that have their imports behind them, to be limited, disturbed, watched and killed.

A server that has imported what `ipcv caption` needs forks for each run, which saves the seconds of the imports. What
runs is the real command, with readers of its own, which are started as always.
"""

import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

FAST = ("--model", "demo", "--max-frames", "4", "--max-new-tokens", "8", "--max-pixels", "7056")
PRELOAD = ["runner", "ipcv_cli.main", "ipcv.output.caption", "ipcv.inference.load", "ipcv.readers.pool", "av"]
Prepare = Callable[[], object]  # what the process does to itself before it begins

_numbers = itertools.count()
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOAD)


@dataclass(frozen=True)
class Sample:
    """What a run holds at one moment, its readers not counted."""

    seconds: float
    memory: int  # bytes in RAM
    descriptors: int


@dataclass
class Run:
    """A command line that runs, or has run."""

    words: Sequence[str]
    folder: Path  # where it runs, and where its output goes
    prepare: Sequence[Prepare] = ()
    variables: dict[str, str] = field(default_factory=dict)
    peak: int = 0  # the most bytes that one process held, readers counted

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.err_path, self.out_path = (self.folder / f".{number}.{name}" for name in ("err", "out"))
        streams = (str(self.out_path), str(self.err_path))
        arguments = (list(self.words), str(self.folder), streams, tuple(self.prepare), self.variables)
        self.process: Any = _server.Process(target=_run, args=arguments, daemon=False)
        self.process.start()
        self._began = time.monotonic()

    def samples(self, every: float = 0.05, limit: float = 120) -> Iterator[Sample]:
        """What it holds, until it has ended; after `limit` seconds it is killed."""
        while self.process.is_alive():
            if self.seconds > limit:
                self.kill()
                raise TimeoutError(f"ipcv {' '.join(self.words)} ran for more than {limit:g} s")
            with suppress(psutil.Error):  # it has just ended
                yield self._sample()
            self.process.join(every)

    def _sample(self) -> Sample:
        watched = psutil.Process(self.process.pid)
        own, descriptors = watched.memory_info().rss, watched.num_fds()
        most = own
        for child in watched.children(recursive=True):
            with suppress(psutil.Error):
                most = max(most, child.memory_info().rss)
        self.peak = max(self.peak, most)
        return Sample(self.seconds, own, descriptors)

    def wait(self, limit: float = 120) -> int:
        """Its exit code, negative for a signal."""
        for _ in self.samples(limit=limit):
            pass
        return self.code

    def wait_for(self, condition: Callable[[], bool], limit: float = 60) -> bool:
        """Wait for something that it brings about; False if it ends before that."""
        until = time.monotonic() + limit
        while self.process.is_alive() and time.monotonic() < until:
            if condition():
                return True
            time.sleep(0.005)
        return condition()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    @property
    def code(self) -> int:
        """The exit code; of a killed process the negative number of the signal."""
        self.process.join()
        return self.process.exitcode

    @property
    def err(self) -> str:
        """What it has written to stderr."""
        return self.err_path.read_text("utf-8", "backslashreplace") if self.err_path.exists() else ""

    @property
    def out(self) -> str:
        """What it has written to stdout."""
        return self.out_path.read_text("utf-8", "backslashreplace") if self.out_path.exists() else ""

    def send(self, number: int) -> None:
        """A signal to the main process."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it and its readers."""
        with suppress(psutil.Error):
            everyone = [*psutil.Process(self.process.pid).children(recursive=True)]
            self.process.kill()
            for each in everyone:
                with suppress(psutil.Error):
                    each.kill()
        self.process.join()

    def readers(self) -> list[psutil.Process]:
        """Its reader processes."""
        with suppress(psutil.Error):
            return psutil.Process(self.process.pid).children()
        return []


def _run(
    words: list[str], folder: str, streams: tuple[str, str], prepare: Sequence[Prepare], variables: dict[str, str]
) -> None:
    """The forked process: as `python -m ipcv_cli` from here on."""
    os.chdir(folder)
    os.environ.update({"OMP_NUM_THREADS": "1", "TMPDIR": folder} | variables)
    for number, name in zip((1, 2), streams, strict=True):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["ipcv", *words]
    for each in prepare:
        each()
    from ipcv_cli.main import run

    run()


def complaints(run: Run) -> list[str]:
    """Which lines on stderr a person should never see."""
    bad = ("Traceback", "a bug in ipcv", "Error:", "Exception", "terminate called", "Aborted", "Segmentation")
    return [line for line in run.err.splitlines() if any(word in line for word in bad) or not line.startswith("ipcv: ")]


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def results(folder: Path, name: str = "captions") -> dict[str, bytes]:
    """The bytes of everything that a run has left in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix in (".jsonl", ".txt")}
