"""The engine that runs the model in workers on a Ray cluster."""

from dataclasses import replace

from ipcv.batch.engine import EngineSettings, Warn
from ipcv.batch.plan import Plan
from ipcv.cluster.ray_cluster import Cluster
from ipcv.cluster.scheduler import Scheduler
from ipcv.cluster.worker import WorkerSettings


class RayEngine:
    """Runs the model in the workers of an open `cluster`. Videos come back in the order in which they are done.

    >>> with Cluster(actors=2) as cluster:
    ...     for event in ipcv.caption("clips/", "captions.jsonl", engine=RayEngine(cluster)):
    ...         ...
    """

    def __init__(self, cluster: Cluster, settings: EngineSettings | None = None) -> None:
        self.cluster, self.settings = cluster, settings or EngineSettings()

    def start(self, plan: Plan, warn: Warn, *, offline: bool = False) -> Scheduler:
        """Start the workers, and ask the first one for the model's identity. Errors as of `Scheduler`."""
        share = self.cluster.share
        if share.room < share.count:
            warn(f"the cluster has room for {share.room} of the {share.count} actors: the others wait for more")
        source = self.settings.source
        engine = replace(self.settings, source=replace(source, offline=source.offline or offline))
        return Scheduler(self.cluster, WorkerSettings(engine=engine, plan=plan, neighbors=share.neighbors), warn)
