"""Where the model runs: in this process, or in those of a Ray cluster."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ipcv_cli import startup
from ipcv_cli.captioning.request import Requests
from ipcv_cli.exit import leaving_at_once

if TYPE_CHECKING:
    from ipcv.batch.plan import Outcome, Plan, WorkItem
    from ipcv.cluster.ray_cluster import Cluster
    from ipcv.inference.load import FittedModel
    from ipcv_cli.display.caption_view import BatchView


class Engine(Protocol):
    """What captions the videos of a batch."""

    identity: dict[str, Any]  # the model's: `identity.model`

    def outcomes(self, works: Iterator["WorkItem"]) -> Iterator["Outcome"]:
        """What becomes of every one of `works`."""
        ...


def engine(
    requests: Requests, plan: "Plan", view: "BatchView", stack: ExitStack, *, dry_run: bool, no_color: bool
) -> Engine:
    """The one that is asked for, for as long as `stack` lasts."""
    if requests.cluster:
        return _Remote(requests, plan, view, stack.enter_context(requests.cluster))
    return _Local(requests, plan, view, dry_run=dry_run, no_color=no_color)


class _Local:
    """This process."""

    def __init__(self, requests: Requests, plan: "Plan", view: "BatchView", *, dry_run: bool, no_color: bool) -> None:
        from ipcv.encodings.fingerprint import model_to_come

        self._requests, self._plan, self._view, self._no_color = requests, plan, view, no_color
        source = requests.source
        if dry_run:
            source = replace(source, offline=True)
        startup.announce_download(source, quiet=view.quiet, no_color=no_color)
        self.identity = model_to_come(source)

    def outcomes(self, works: Iterator["WorkItem"]) -> Iterator["Outcome"]:
        """Load the model, while the readers start, and let it work."""
        requests = self._requests
        with ExitStack() as stack:
            with leaving_at_once():
                from ipcv.batch.captioner import Captioner
                from ipcv.encodings.cache import parse_size
                from ipcv.readers.pool import Readers

                limit = parse_size(requests.max_download)
                readers = stack.enter_context(Readers(requests.readers, requests.prefetch, requests.timeout))
                ready = self._loaded()
                for message in ready.model.warnings:
                    self._view.warn(message)
                captioner = Captioner(
                    ready.model,
                    replace(self._plan, options=ready.options),
                    readers,
                    batch_size=ready.batch_size or requests.batch_size,
                    cache=requests.cache,
                    max_download=limit,
                )
            yield from captioner.run(works)

    def _loaded(self) -> "FittedModel":
        requests = self._requests
        return startup.load_model(
            requests.source,
            self._plan.options,
            batch_size=requests.batch_size,
            quiet=True,  # the download is announced
            no_color=self._no_color,
        )


class _Remote:
    """Workers on a Ray cluster."""

    def __init__(self, requests: Requests, plan: "Plan", view: "BatchView", cluster: "Cluster") -> None:
        from ipcv.cluster.scheduler import Scheduler
        from ipcv.cluster.worker import WorkerSettings
        from ipcv.encodings.cache import parse_size

        settings = WorkerSettings(
            source=requests.source,
            plan=plan,
            neighbors=cluster.share.neighbors,
            readers=requests.readers,
            prefetch=requests.prefetch,
            timeout=requests.timeout,
            batch_size=requests.batch_size,
            max_download=parse_size(requests.max_download),
            cache=(requests.cache.folder, requests.cache.limit) if requests.cache else None,
        )
        share = cluster.share
        where = "a cluster started here" if cluster.is_ours else "the cluster"
        view.say("ray", f"actors on {where}: {share.count}; for each, CPUs: {share.cpus}, GPUs: {share.gpus:g}")
        if share.room < share.count:
            view.warn(f"the cluster has room for {share.room} of the {share.count} actors: the others wait for more")
        self._crew = Scheduler(cluster, settings, view.warn)
        self.identity = self._crew.identity

    def outcomes(self, works: Iterator["WorkItem"]) -> Iterator["Outcome"]:
        """Let the workers load the model, and work."""
        return self._crew.run(works)
