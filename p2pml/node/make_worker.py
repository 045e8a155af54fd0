"""Which worker a node has, as its configuration says: a process of its own, one elsewhere, or none."""

from __future__ import annotations

from pathlib import Path

from p2pml.config import Config
from p2pml.home import Home
from p2pml.node.no_worker import NoWorker, reason_for_no_worker
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.process import WorkerSupervisor
from p2pml.worker.remote import Place, RemoteWorker
from p2pml.worker.token import read_token

Worker = WorkerSupervisor | RemoteWorker | NoWorker


def make_worker(home: Home, config: Config) -> Worker:
    """The node's worker, not running yet.

    Raises:
        UserError: the token of one on another machine cannot be read.
    """
    if reason := reason_for_no_worker(config):
        return NoWorker(reason)
    if config.worker:
        token = read_token(home.root / Path(config.worker_token_file).expanduser())
        return RemoteWorker(Place(config.worker, token, config.worker_fingerprint))
    return WorkerSupervisor(home.logs / "worker.log", limits_of(config))


def limits_of(config: Config) -> WorkerLimits:
    """What the node's `config.toml` says of its worker process."""
    return WorkerLimits(
        config.worker_threads,
        config.worker_cpu,
        config.worker_memory_mb << 20 or None,
        config.worker_nice,
        config.worker_devices,
        config.worker_trainers,
    )
