"""A Ray cluster, joined or started here, and how many workers it gets with how much of it each."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch

from ipcv.cluster.worker import Worker, WorkerSettings
from ipcv.errors import ClusterError, first_line
from ipcv.extras import require

OBJECT_STORE = 100 << 20  # bytes: only captions pass through it
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # its messages about workers that end would go to stdout
}
_HERE = ("", "local")  # values of RAY_ADDRESS with which a cluster may be started
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: a cluster is for one machine, and nobody else reaches its ports


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """The number of workers on a cluster, and the resources of each."""

    count: int
    gpus: float
    cpus: int
    room: int  # workers for which the cluster is large enough
    neighbors: int  # workers on one GPU at most, or on one machine if they have none


def _quiet_ray() -> Any:
    """Ray, set to log little, and to keep to this machine unless it joins a cluster elsewhere.

    Raises `ValueError` if it is not installed.
    """
    keep_here = {_LOOPBACK: "0"} if os.environ.get("RAY_ADDRESS", "") in _HERE else {}
    for name, value in (_QUIET | keep_here).items():
        os.environ.setdefault(name, value)  # read as Ray is imported
    ray = require("ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


class Cluster:
    """A Ray cluster with `actors` workers and `gpus` for each, by default as many as it has room for.

    A `with` connects to the cluster of `RAY_ADDRESS`, or to the one that `ray start` has made on this machine, or
    starts one that ends with the `with`, and that no other machine reaches. Raises `ClusterError` if none can be had,
    and `ValueError` for wrong numbers.
    """

    def __init__(self, *, actors: int | None = None, gpus: float | None = None) -> None:
        if actors is not None and actors < 1:
            raise ValueError(f"actors={actors} must be at least 1")
        if gpus is not None and not (0 <= gpus < 1 or (gpus >= 1 and gpus.is_integer())):
            raise ValueError(f"{gpus:g} GPUs per actor make no sense: give a share such as 0.5, or a whole number")
        self._actors, self._gpus = actors, gpus
        self.ray = _quiet_ray()
        self.is_ours = False  # whether it was started here
        self.is_private = False  # whether only this machine reaches it

    def __enter__(self) -> Self:
        self._was_there = self.ray.is_initialized()
        if not self._was_there:
            with _own_signals():
                self._connect(os.environ.get("RAY_ADDRESS", ""))
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        self.is_private = all(node["NodeManagerAddress"] == "127.0.0.1" for node in alive)
        self.share = share([node["Resources"] for node in alive], self._actors, self._gpus)
        if self.is_ours and not self.share.room:
            self._disconnect()
            raise ValueError(
                f"this machine has no {self.share.gpus:g} GPUs for an actor: give fewer, or join a cluster"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disconnect()

    def start_worker(self, settings: WorkerSettings) -> Any:
        """Start a worker as soon as there is room for it, and return its actor. It ends with the cluster's `with`."""
        actor = self.ray.remote(Worker).options(
            num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_concurrency=2, max_restarts=0, max_task_retries=0
        )
        return actor.remote(settings)

    def _connect(self, address: str) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        _check_address(address)
        try:
            if address not in _HERE or not self._start(quiet):
                self.ray.init(**quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(f"no Ray cluster can be had: {first_line(error)}") from error

    def _start(self, quiet: dict[str, Any]) -> bool:
        """Start a cluster, and return whether that was needed: `ray start` may have made one on this machine."""
        threads = torch.get_num_threads()  # as many as the model would use in this process
        cpus = max(threads, self._actors or 1)
        try:
            self.ray.init(num_cpus=cpus, object_store_memory=OBJECT_STORE, include_dashboard=False, **quiet)
        except ValueError as error:
            if "existing cluster" not in str(error):
                raise
            return False
        self.is_ours = True
        return True

    def _disconnect(self) -> None:
        if not self._was_there:
            self.ray.shutdown()


def share(nodes: Sequence[Mapping[str, float]], actors: int | None, gpus: float | None) -> WorkerPlan:
    """Divide machines among workers: one for each GPU, or without GPUs one for each machine, with all its CPUs."""
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    if gpus:
        room = sum(int(node.get("GPU", 0.0) // gpus) for node in nodes)
        count = actors or max(room, 1)
        return WorkerPlan(count=count, gpus=gpus, cpus=1, room=room, neighbors=min(count, max(int(1 // gpus), 1)))
    cpus = [int(node.get("CPU", 0.0)) for node in nodes if node.get("CPU", 0.0) >= 1]
    count = actors or max(len(cpus), 1)
    each = max(min(sum(cpus) // count, min(cpus, default=1)), 1)
    rooms = [number // each for number in cpus]
    return WorkerPlan(count=count, gpus=0.0, cpus=each, room=sum(rooms), neighbors=min(count, max(rooms, default=1)))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put our handler of SIGTERM back, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_address(address: str) -> None:
    """Raise `ClusterError` if nothing answers at `host:port`; Ray itself would wait for many minutes."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"RAY_ADDRESS={address}: Ray Client is no way to do this; start it on a machine of the cluster"
        )
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            ways = "start the cluster, or unset RAY_ADDRESS to start one here"
            raise ClusterError(f"no Ray cluster answers at {address} ({error.strerror or error}): {ways}") from error
