"""Engines caption the videos of a run. The local engine runs the model in this process."""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ipcv.batch.captioner import Captioner
from ipcv.batch.plan import Outcome, Plan, WorkItem
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import LIMIT, EncodingCache
from ipcv.inference.load import FittedModel, load_fitted
from ipcv.inference.model import Model
from ipcv.media.remote.access import MAX_DOWNLOAD, Access
from ipcv.models.source import ModelSource
from ipcv.readers.pool import Readers, check_readers

Warn = Callable[[str], object]  # gets a warning that is not about one video


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an engine reads videos and runs the model. Raises `ValueError` for bad values."""

    source: ModelSource = field(default_factory=ModelSource)
    readers: int = 2  # processes that read ahead; 0: none, one video after the other
    prefetch: int = 4  # videos read ahead at most
    timeout: float | None = None  # seconds that reading one video may take
    batch_size: int = 8  # answers written at a time
    max_download: int = MAX_DOWNLOAD  # bytes of a remote video
    allow_private: bool = False  # whether redirects may lead from the internet to this machine or its network
    cache: Path | None = None  # folder in which encodings are kept
    cache_limit: int = LIMIT  # bytes

    def __post_init__(self) -> None:
        check_readers(self.readers, self.prefetch, self.timeout)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be at least 1")

    @property
    def access(self) -> Access:
        """How far remote videos may be followed."""
        return Access(max_download=self.max_download, timeout=self.timeout, allow_private=self.allow_private)


class EngineRun(Protocol):
    """An engine that knows its plan."""

    @property
    def identity(self) -> dict[str, Any]:
        """The model's, as `fingerprint.model` describes it; known before any model is loaded."""
        ...

    def run(self, works: Iterable[WorkItem]) -> Generator[Outcome, None, None]:
        """Caption every one of `works`: a `Captioned` or a `Failed` for each, and a `Started` before it."""
        ...


class Engine(Protocol):
    """A place where models run."""

    @property
    def settings(self) -> EngineSettings:
        """How it works."""
        ...

    def start(self, plan: Plan, warn: Warn, *, offline: bool = False) -> EngineRun:
        """Find the model, without loading it. `offline`: make no network call, whatever the settings say."""
        ...


class LocalEngine:
    """Runs the model in this process: the one that `settings.source` names, or `model`, which is loaded already."""

    def __init__(self, settings: EngineSettings | None = None, model: Model | None = None) -> None:
        self.settings, self.model = settings or EngineSettings(), model

    def start(self, plan: Plan, warn: Warn, *, offline: bool = False) -> "LocalRun":
        """Find the model, without loading it. Fetches it unless `offline`; errors as in `ipcv.load`."""
        if self.model:
            return LocalRun(self, plan, warn, fingerprint.model(self.model.facts))
        source = self.settings.source
        identity = fingerprint.model_to_come(replace(source, offline=source.offline or offline))
        return LocalRun(self, plan, warn, identity)

    def load(self, plan: Plan, warn: Warn, stack: ExitStack, *, neighbors: int = 1) -> Captioner:
        """Load the model while the readers start, which end with `stack`. Errors as in `ipcv.load` and `Captioner`.

        `neighbors` is as for `ipcv.fit_to_device`.
        """
        settings = self.settings
        readers = stack.enter_context(Readers(settings.readers, settings.prefetch, settings.timeout))
        ready = self._fitted(plan, neighbors)
        for message in ready.model.warnings:
            warn(message)
        cache = EncodingCache(settings.cache, settings.cache_limit, warn) if settings.cache else None
        return Captioner(
            ready.model,
            replace(plan, options=ready.options),
            readers,
            batch_size=settings.batch_size if ready.batch_size is None else ready.batch_size,
            cache=cache,
            access=settings.access,
        )

    def _fitted(self, plan: Plan, neighbors: int) -> FittedModel:
        size = self.settings.batch_size
        if self.model:
            return FittedModel(model=self.model, options=plan.options, batch_size=size)
        return load_fitted(self.settings.source, plan.options, batch_size=size, neighbors=neighbors)


@dataclass(frozen=True)
class LocalRun:
    """A local engine that knows its plan."""

    engine: LocalEngine
    plan: Plan
    warn: Warn
    identity: dict[str, Any]

    def run(self, works: Iterable[WorkItem]) -> Generator[Outcome, None, None]:
        """Load the model, and caption every one of `works` in order."""
        with ExitStack() as stack:
            yield from self.engine.load(self.plan, self.warn, stack).run(works)
