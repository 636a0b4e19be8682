"""Engines of the command line: they announce downloads, and Ctrl-C ends them at once while a model is read."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ipcv.batch.captioner import Captioner
from ipcv.batch.engine import Engine, EngineSettings, LocalEngine, LocalRun, Warn
from ipcv.batch.plan import Plan
from ipcv_cli import startup
from ipcv_cli.exit import leaving_at_once

if TYPE_CHECKING:
    from ipcv.cluster.ray_cluster import Cluster
    from ipcv.cluster.scheduler import Scheduler
    from ipcv_cli.display.caption_view import BatchView


def choose_engine(
    settings: EngineSettings, cluster: "Cluster | None", view: "BatchView", stack: ExitStack, *, no_color: bool
) -> Engine:
    """The local engine, or one on a cluster, to which `start` connects until `stack` ends."""
    if cluster is None:
        return _LocalEngine(settings, view, no_color=no_color)
    return _ray_engine(settings, cluster, view, stack)


def _ray_engine(settings: EngineSettings, cluster: "Cluster", view: "BatchView", stack: ExitStack) -> Engine:
    from ipcv.cluster.engine import RayEngine

    class AnnouncedRayEngine(RayEngine):
        def start(self, plan: Plan, warn: Warn, *, offline: bool = False) -> "Scheduler":
            with leaving_at_once():
                stack.enter_context(cluster)
                share, where = cluster.share, "a cluster started here" if cluster.is_ours else "the cluster"
                where += ", which only this machine reaches" if cluster.is_private else ""
                view.say("ray", f"actors on {where}: {share.count}; for each, CPUs: {share.cpus}, GPUs: {share.gpus:g}")
                return super().start(plan, warn, offline=offline)

    return AnnouncedRayEngine(settings=settings, cluster=cluster)


class _LocalEngine(LocalEngine):
    def __init__(self, settings: EngineSettings, view: "BatchView", *, no_color: bool) -> None:
        super().__init__(settings)
        self._view, self._no_color = view, no_color

    def start(self, plan: Plan, warn: Warn, *, offline: bool = False) -> LocalRun:
        with leaving_at_once():
            if not offline:
                self._view.status("")  # the line is free for the download's bar
                startup.announce_download(self.settings.source, quiet=self._view.quiet, no_color=self._no_color)
            return super().start(plan, warn, offline=offline)

    def load(self, plan: Plan, warn: Warn, stack: ExitStack, *, neighbors: int = 1) -> Captioner:
        with leaving_at_once():
            startup.hide_loading_bar()
            self._view.status(f"loading {self.settings.source.name}")
            return super().load(plan, warn, stack, neighbors=neighbors)
