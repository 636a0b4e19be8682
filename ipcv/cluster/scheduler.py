"""Hands the videos of a run out to the workers of a cluster, and yields each result as soon as it is there.

Why plain actors and not a Ray Data pipeline, which also keeps a pool of them: Ray Data hands results over block by
block, so that finished captions wait for the rest of their block; an actor that ends takes its block along, which is
tried again for ever, or after some tries dropped whole; and with a video per block no two are read ahead or answered
together. Here each worker has a few videos ahead, sends back each one as it is done, and answers several at a time.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from ipcv.batch.engine import Warn
from ipcv.batch.plan import Failed, Outcome, Started, WorkItem, failure
from ipcv.cluster.ray_cluster import Cluster
from ipcv.cluster.worker import WorkerSettings
from ipcv.errors import ClusterError, WorkerCrashError
from ipcv.text import shown

TRIES = 3  # workers that may end over one video, or one after the other before they can do anything
PATIENCE = 60.0  # seconds without any worker, after which a warning says so
LATE = "no worker is ready yet: the cluster is busy or too small, or the model is still being loaded"
SHUTDOWN_SECONDS = 5.0  # that workers get to remove what they have fetched


@dataclass(eq=False)
class _WorkerState:
    """A worker, and what it has been given."""

    number: int
    actor: Any
    waits: Any  # the Ray object it sends next: its load's result, then a stream of outcomes; None: it is idle
    is_loaded: bool = False
    takes: bool = False  # whether its stream is open for more
    fed: int = 0  # videos in its stream
    held: dict[str, WorkItem] = field(default_factory=dict)  # by id: given to it, and not done yet
    ahead: set[str] = field(default_factory=set)  # ids of those that it has not begun


class Scheduler:
    """Runs workers on a `cluster`. `identity` is the model's on a worker, and known before any model is loaded.

    `warn` gets warnings that are not about one video. A worker that ends is replaced. The videos it had are done
    again, each alone, so that one that takes its worker down is found out, and fails after `TRIES`. No video is lost,
    and none is done twice. Outcomes come in the order in which videos are done.
    """

    def __init__(self, cluster: Cluster, settings: WorkerSettings, warn: Warn) -> None:
        self._cluster, self._settings, self._warn = cluster, settings, warn
        self._ray = cluster.ray
        self._depth = settings.engine.prefetch + 2  # videos given to a worker in advance: it never waits
        self._outcomes: deque[Outcome] = deque()
        self._again: deque[WorkItem] = deque()  # videos of workers that ended
        self._tries: Counter[str] = Counter()
        self._losses = 0  # in a row, before a model was loaded
        self._started = 0
        self._workers: list[_WorkerState] = []
        self._actors = [cluster.start_worker(settings) for _ in range(cluster.share.count)]
        self.identity: dict[str, Any] = self._asked(self._actors[0].identity.remote())

    def run(self, works: Iterable[WorkItem]) -> Generator[Outcome, None, None]:
        """Caption every one of `works`.

        Raises `ClusterError` if workers do not live long enough to load the model, and what loading it raises.
        """
        self._works, self._is_out = iter(works), False
        try:
            for actor in self._actors:
                self._start_worker(actor)
            while True:
                self._dispatch()
                while self._outcomes:
                    yield self._outcomes.popleft()
                if self._is_out and not self._again and not any(worker.held for worker in self._workers):
                    return
                for worker in self._ready():
                    self._receive(worker)
        finally:
            self._shut_down()
            for worker in self._workers:
                self._ray.kill(worker.actor)

    def _asked(self, question: Any) -> Any:
        """Wait for the answer of the first worker."""
        try:
            while not self._ray.wait([question], timeout=PATIENCE)[0]:
                self._warn(LATE)
            return self._ray.get(question)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise ClusterError(f"no worker can be started: {_reason(error)}") from error

    def _start_worker(self, actor: Any) -> None:
        self._started += 1
        self._workers.append(_WorkerState(self._started, actor, actor.load.remote(self.identity)))

    def _dispatch(self) -> None:
        """Give every worker the videos that it has room for."""
        for worker in self._workers:
            if worker.is_loaded and worker.waits is None:
                work = self._fresh() or (self._again.popleft() if self._again else None)
                if work:
                    self._open(worker, work)
            while worker.takes and len(worker.ahead) < self._depth:
                if work := self._fresh():
                    self._feed(worker, work)
                else:
                    self._close(worker)

    def _fresh(self) -> WorkItem | None:
        """The next video that no worker has had, if there is one. Those that have failed already become outcomes."""
        while not self._is_out:
            work = next(self._works, None)
            if work is None:
                self._is_out = True
            elif work.failed:
                self._outcomes.append(work.failed)
            else:
                return work
        return None

    def _open(self, worker: _WorkerState, work: WorkItem) -> None:
        """Begin a stream of videos with `work`. A video that is done again has its stream alone."""
        worker.waits = worker.actor.caption.options(num_returns="streaming").remote()
        worker.takes, worker.fed = True, 0
        self._feed(worker, work)
        if self._tries[work.item.id]:
            self._close(worker)

    def _feed(self, worker: _WorkerState, work: WorkItem) -> None:
        worker.actor.feed.remote(work)
        worker.fed += 1
        worker.held[work.item.id] = work
        worker.ahead.add(work.item.id)

    def _close(self, worker: _WorkerState) -> None:
        worker.actor.feed.remote(worker.fed)
        worker.takes = False

    def _ready(self) -> list[_WorkerState]:
        """Wait for messages, and return the workers that sent one: none if all are still loading."""
        waiting = {worker.waits: worker for worker in self._workers if worker.waits is not None}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=PATIENCE)
        if not ready and not any(worker.is_loaded for worker in self._workers):
            self._warn(LATE)
        return [waiting[each] for each in ready]

    def _receive(self, worker: _WorkerState) -> None:
        """Take a message of a worker."""
        errors = self._ray.exceptions
        try:
            if worker.is_loaded:
                self._take(worker, self._ray.get(next(worker.waits)))
            else:
                for message in self._ray.get(worker.waits):
                    self._warn(message)
                worker.is_loaded, worker.waits, self._losses = True, None, 0
        except StopIteration:
            worker.waits = None
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            self._on_worker_lost(worker, error)

    def _take(self, worker: _WorkerState, message: Outcome | str) -> None:
        if isinstance(message, str):
            self._warn(message)
            return
        name = message.item.id
        worker.ahead.discard(name)
        if not isinstance(message, Started):
            del worker.held[name]
        self._outcomes.append(message)

    def _on_worker_lost(self, worker: _WorkerState, error: Exception) -> None:
        """Replace a worker that has ended, or whose machine has, and let its videos be done again."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        if not worker.is_loaded:
            self._losses += 1
            if self._losses == TRIES:
                raise ClusterError(f"{TRIES} workers ended before the model was loaded: {_reason(error)}") from error
        self._warn(f"worker {worker.number} ended ({_reason(error)}); what it had is done again: {len(worker.held)}")
        for work in worker.held.values():
            self._tries[work.item.id] += 1
            if self._tries[work.item.id] < TRIES:
                self._again.append(work)
            else:
                self._outcomes.append(_given_up(work, error, is_begun=work.item.id not in worker.ahead))
        self._start_worker(self._cluster.start_worker(self._settings))

    def _shut_down(self) -> None:
        """Give workers the time to end their readers, whatever they are doing."""
        ends = [worker.actor.end.remote() for worker in self._workers if worker.is_loaded]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=SHUTDOWN_SECONDS)


def _given_up(work: WorkItem, error: Exception, *, is_begun: bool) -> Failed:
    why = f"its worker ended {TRIES} times, the last ones alone with it ({_reason(error)})"
    problem = WorkerCrashError(f"{shown(work.item.video)}: {why}")
    return failure(work.item, work.key, "encode" if is_begun else "read", problem)


def _reason(error: Exception) -> str:
    """Ray's reason for the end of a worker, in short."""
    *_, last = ["", *str(error).strip().splitlines()]
    detail = last.rpartition("Worker exit detail: ")[2].partition(". ")[0]
    return f"{type(error).__name__}: {shown(detail)}"
