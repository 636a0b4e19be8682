"""A worker of a cluster: a process of its own that holds the model and captions the videos it is handed."""

import os
import platform
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ipcv.batch.captioner import Captioner
from ipcv.batch.plan import Outcome, Plan, WorkItem, failure
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.errors import ModelError, VideoError
from ipcv.inference.load import FittedModel, load_fitted
from ipcv.media.remote import is_remote
from ipcv.models.source import ModelSource
from ipcv.readers.pool import Readers
from ipcv.text import shown


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What every worker of a cluster is told."""

    source: ModelSource
    plan: Plan
    neighbors: int = 1  # as for `fit_to_device`
    folder: str = field(default_factory=os.getcwd)  # where relative paths start, if it is there
    readers: int  # as for `Readers`
    prefetch: int
    timeout: float | None
    batch_size: int  # as for `Captioner`
    max_download: int  # bytes
    cache: tuple[Path, int] | None  # folder and limit of the encoding cache


class Worker:
    """Lives in a process of its own; its methods are called from another one, `feed` while `caption` runs."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._inbox: queue.SimpleQueue[WorkItem | int] = queue.SimpleQueue()
        self._warnings: list[str] = []  # not yet told
        self._readers: Readers | None = None
        if Path(settings.folder).is_dir():
            os.chdir(settings.folder)

    def identity(self) -> dict[str, Any]:
        """The model as it will be held here. Errors as in `ipcv.load`."""
        return fingerprint.model_to_come(self.settings.source)

    def load(self, expected: dict[str, Any]) -> tuple[str, ...]:
        """Load the model, and say what there is to know about it.

        Raises `ModelError` if it is another one here than `expected`, and errors as in `ipcv.load` and `Captioner`.
        """
        settings = self.settings
        ready = self._loaded()
        found = fingerprint.model(ready.model.facts)
        if settings.source.leaves_quantization_open:
            found["quantization"] = expected["quantization"]  # each has what fits
        if differs := [f"{name} {found[name]} for {expected[name]}" for name in found if found[name] != expected[name]]:
            raise ModelError(
                f"the machines of the cluster hold different models ({', '.join(differs)}): "
                "give `revision`, `dtype` and `quant`, or use machines of one kind"
            )
        cache = EncodingCache(*settings.cache, self._warnings.append) if settings.cache else None
        self._readers = Readers(settings.readers, settings.prefetch, settings.timeout)
        self._captioner = Captioner(
            ready.model,
            replace(settings.plan, options=ready.options),
            self._readers.__enter__(),
            batch_size=ready.batch_size or settings.batch_size,
            cache=cache,
            max_download=settings.max_download,
        )
        return ready.model.warnings

    def _loaded(self) -> FittedModel:
        settings = self.settings
        return load_fitted(
            settings.source, settings.plan.options, batch_size=settings.batch_size, neighbors=settings.neighbors
        )

    def feed(self, work: WorkItem | int) -> None:
        """One more video for `caption`, or how many it gets in all; in whatever order they come."""
        self._inbox.put(work)

    def caption(self) -> Iterator[Outcome | str]:
        """What becomes of the videos that `feed` brings, until it has brought all of them; texts are warnings."""
        for outcome in self._captioner.run(map(checked, self._fed())):
            yield outcome
            while self._warnings:
                yield self._warnings.pop(0)

    def end(self) -> None:
        """Let the readers go."""
        if self._readers:
            self._readers.__exit__(None, None, None)

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
    """`work`, or its failure if the file is not the one that was found where the batch was started."""
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
