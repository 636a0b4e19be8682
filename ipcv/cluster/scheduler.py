"""The videos of a batch handed out to the workers of a cluster, and what becomes of them, as soon as each is done.

Why plain actors and not a Ray Data pipeline, which also keeps a pool of them: Ray Data hands results over block by
block, so that finished captions wait for the rest of their block; an actor that ends takes its block along, which is
tried again for ever, or after some tries dropped whole; and with a video per block no two are read ahead or answered
together. Here each worker has a few videos ahead, sends back each one as it is done, and answers several at a time.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ipcv.batch.plan import Failed, Outcome, Started, WorkItem, failure
from ipcv.cluster.ray_cluster import Cluster
from ipcv.cluster.worker import WorkerSettings
from ipcv.errors import ClusterError, WorkerCrashError
from ipcv.text import shown

TRIES = 3  # workers that may end over one video, or one after the other before they can do anything
PATIENCE = 60.0  # seconds without any worker, after which that is said
LATE = "no worker is ready yet: the cluster is busy or too small, or the model is still being loaded"
FAREWELL = 5.0  # seconds that workers get to remove what they have fetched


@dataclass(eq=False)
class _Member:
    """A worker as seen from here."""

    number: int
    actor: Any
    waits: Any  # what it sends next: that it is loaded, then a stream of outcomes; None: it has nothing to do
    is_loaded: bool = False
    takes: bool = False  # whether its stream is open for more
    fed: int = 0  # videos in its stream
    held: dict[str, WorkItem] = field(default_factory=dict)  # by id: given to it and not back yet
    ahead: set[str] = field(default_factory=set)  # those that it has not begun


class Scheduler:
    """Workers on a `cluster`. `identity` is the model's on a worker, and known before any model is loaded.

    `warn` gets what is not about one video. A worker that ends is replaced; the videos it had are done again, each
    alone, so that one that takes its worker down is found out and fails after `TRIES`. Nothing is lost, nothing is
    done twice; outcomes come in the order in which videos are done.
    """

    def __init__(self, cluster: Cluster, settings: WorkerSettings, warn: Callable[[str], None]) -> None:
        self._cluster, self._settings, self._warn = cluster, settings, warn
        self._ray = cluster.ray
        self._depth = settings.prefetch + 2  # videos given to a worker before it begins them: it never waits for one
        self._news: deque[Outcome] = deque()
        self._again: deque[WorkItem] = deque()  # what a worker had that ended
        self._tries: Counter[str] = Counter()
        self._deaths = 0  # in a row, before a model was loaded
        self._hired = 0
        self._members: list[_Member] = []
        self._actors = [cluster.hire(settings) for _ in range(cluster.share.count)]
        self.identity: dict[str, Any] = self._asked(self._actors[0].identity.remote())

    def run(self, works: Iterable[WorkItem]) -> Iterator[Outcome]:
        """What becomes of every one of `works`.

        Raises `ClusterError` if workers do not live long enough to load the model, and what loading it raises.
        """
        self._works, self._is_out = iter(works), False
        try:
            for actor in self._actors:
                self._hire(actor)
            while True:
                self._hand_out()
                while self._news:
                    yield self._news.popleft()
                if self._is_out and not self._again and not any(member.held for member in self._members):
                    return
                for member in self._heard():
                    self._listen(member)
        finally:
            self._part()
            for member in self._members:
                self._ray.kill(member.actor)

    def _asked(self, question: Any) -> Any:
        """What the first worker answers, once there is one."""
        try:
            while not self._ray.wait([question], timeout=PATIENCE)[0]:
                self._warn(LATE)
            return self._ray.get(question)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise ClusterError(f"no worker can be started: {_reason(error)}") from error

    def _hire(self, actor: Any) -> None:
        self._hired += 1
        self._members.append(_Member(self._hired, actor, actor.load.remote(self.identity)))

    def _hand_out(self) -> None:
        """Give every worker what it can take."""
        for member in self._members:
            if member.is_loaded and member.waits is None:
                work = self._fresh() or (self._again.popleft() if self._again else None)
                if work:
                    self._open(member, work)
            while member.takes and len(member.ahead) < self._depth:
                if work := self._fresh():
                    self._feed(member, work)
                else:
                    self._close(member)

    def _fresh(self) -> WorkItem | None:
        """The next video that no worker has had, if there is one; those that have failed already are news."""
        while not self._is_out:
            work = next(self._works, None)
            if work is None:
                self._is_out = True
            elif work.failed:
                self._news.append(work.failed)
            else:
                return work
        return None

    def _open(self, member: _Member, work: WorkItem) -> None:
        """Begin a stream; one of a video that is done again is closed at once."""
        member.waits = member.actor.caption.options(num_returns="streaming").remote()
        member.takes, member.fed = True, 0
        self._feed(member, work)
        if self._tries[work.item.id]:
            self._close(member)

    def _feed(self, member: _Member, work: WorkItem) -> None:
        member.actor.feed.remote(work)
        member.fed += 1
        member.held[work.item.id] = work
        member.ahead.add(work.item.id)

    def _close(self, member: _Member) -> None:
        member.actor.feed.remote(member.fed)
        member.takes = False

    def _heard(self) -> list[_Member]:
        """Workers that have something to say; there is at least one, unless all are still to come."""
        waiting = {member.waits: member for member in self._members if member.waits is not None}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=PATIENCE)
        if not ready and not any(member.is_loaded for member in self._members):
            self._warn(LATE)
        return [waiting[each] for each in ready]

    def _listen(self, member: _Member) -> None:
        """Take in what a worker says."""
        errors = self._ray.exceptions
        try:
            if member.is_loaded:
                self._take(member, self._ray.get(next(member.waits)))
            else:
                for message in self._ray.get(member.waits):
                    self._warn(message)
                member.is_loaded, member.waits, self._deaths = True, None, 0
        except StopIteration:
            member.waits = None
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            self._bury(member, error)

    def _take(self, member: _Member, message: Outcome | str) -> None:
        if isinstance(message, str):
            self._warn(message)
            return
        name = message.item.id
        member.ahead.discard(name)
        if not isinstance(message, Started):
            del member.held[name]
        self._news.append(message)

    def _bury(self, member: _Member, error: Exception) -> None:
        """A worker has ended, or its machine has: what it had is done again, by others and by a new one."""
        self._members.remove(member)
        self._ray.kill(member.actor)
        if not member.is_loaded:
            self._deaths += 1
            if self._deaths == TRIES:
                raise ClusterError(f"{TRIES} workers ended before the model was loaded: {_reason(error)}") from error
        self._warn(f"worker {member.number} ended ({_reason(error)}); what it had is done again: {len(member.held)}")
        for work in member.held.values():
            self._tries[work.item.id] += 1
            if self._tries[work.item.id] < TRIES:
                self._again.append(work)
            else:
                self._news.append(_given_up(work, error, is_begun=work.item.id not in member.ahead))
        self._hire(self._cluster.hire(self._settings))

    def _part(self) -> None:
        """Let workers end in order, whatever they are doing."""
        farewells = [member.actor.end.remote() for member in self._members if member.is_loaded]
        if farewells:
            self._ray.wait(farewells, num_returns=len(farewells), timeout=FAREWELL)


def _given_up(work: WorkItem, error: Exception, *, is_begun: bool) -> Failed:
    why = f"its worker ended {TRIES} times, the last ones alone with it ({_reason(error)})"
    problem = WorkerCrashError(f"{shown(work.item.video)}: {why}")
    return failure(work.item, work.key, "encode" if is_begun else "read", problem)


def _reason(error: Exception) -> str:
    """What Ray says about the end of a worker, in short."""
    *_, last = str(error).strip().splitlines()
    detail = last.rpartition("Worker exit detail: ")[2].partition(". ")[0]
    return f"{type(error).__name__}: {shown(detail)}"
