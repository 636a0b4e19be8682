"""A worker of a cluster: a process of its own that holds the model and captions the videos it is handed."""

import os
import platform
import queue
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipcv.batch.engine import EngineSettings, LocalEngine
from ipcv.batch.plan import Outcome, Plan, WorkItem, failure
from ipcv.encodings import fingerprint
from ipcv.errors import ModelError, VideoError
from ipcv.media.remote.access import is_remote
from ipcv.text import shown


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How every worker of a cluster works."""

    engine: EngineSettings
    plan: Plan
    neighbors: int = 1  # as for `fit_to_device`
    folder: str = field(default_factory=os.getcwd)  # where relative paths start, if it is there


class Worker:
    """Lives in a process of its own; its methods are called from another one, `feed` while `caption` runs."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._inbox: queue.SimpleQueue[WorkItem | int] = queue.SimpleQueue()
        self._warnings: list[str] = []  # not yet sent
        self._stack = ExitStack()  # holds the readers
        if Path(settings.folder).is_dir():
            os.chdir(settings.folder)

    def identity(self) -> dict[str, Any]:
        """The model as this process would hold it. Errors as in `ipcv.load`."""
        return fingerprint.model_to_come(self.settings.engine.source)

    def load(self, expected: dict[str, Any]) -> list[str]:
        """Load the model, and return its warnings.

        Raises `ModelError` if it is another one here than `expected`, and errors as in `ipcv.load` and `Captioner`.
        """
        settings = self.settings
        engine = LocalEngine(settings.engine)
        self._captioner = engine.load(settings.plan, self._warnings.append, self._stack, neighbors=settings.neighbors)
        found = fingerprint.model(self._captioner.model.facts)
        if settings.engine.source.leaves_quantization_open:
            found["quantization"] = expected["quantization"]  # each has what fits
        if differs := [f"{name} {found[name]} for {expected[name]}" for name in found if found[name] != expected[name]]:
            raise ModelError(
                f"the machines of the cluster hold different models ({', '.join(differs)}): "
                "give `revision`, `dtype` and `quant`, or use machines of one kind"
            )
        return self._new_warnings()

    def feed(self, work: WorkItem | int) -> None:
        """Hand over one more video, or announce their total; calls may arrive in any order."""
        self._inbox.put(work)

    def caption(self) -> Iterator[Outcome | str]:
        """Caption the videos that `feed` brings, until their total is reached. Yields outcomes and warnings."""
        for outcome in self._captioner.run(map(checked, self._fed())):
            yield outcome
            yield from self._new_warnings()

    def end(self) -> None:
        """End the readers."""
        self._stack.close()

    def _new_warnings(self) -> list[str]:
        found, self._warnings[:] = list(self._warnings), []
        return found

    def _fed(self) -> Iterator[WorkItem]:
        count, total = 0, None
        while count != total:
            match self._inbox.get():
                case int(number):
                    total = number
                case work:
                    count += 1
                    yield work


def checked(work: WorkItem) -> WorkItem:
    """Return `work`, as failed if the file here is not the one that the machine that started the run has found."""
    item = work.item
    if work.content is None or is_remote(item.video):
        return work
    try:
        what = "is another file" if fingerprint.content(item.video)["hash"] != work.content["hash"] else ""
    except VideoError:
        what = "cannot be read"
    if not what:
        return work
    ways = "put videos where all machines see them at the same path, or give URLs"
    error = VideoError(f"{shown(item.video)} {what} on the machine {platform.node()}: {ways}")
    return WorkItem(item=item, key=work.key, content=None, failed=failure(item, work.key, "open", error))
