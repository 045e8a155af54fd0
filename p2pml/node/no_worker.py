"""The worker of a node that has none, and why it has none."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

from p2pml.config import Config
from p2pml.worker.protocol import Message, Progress, Request
from p2pml.worker.session import WorkerUnavailable

R = TypeVar("R", bound=Message)


def reason_for_no_worker(config: Config) -> str:
    """Why this node cannot or shall not train; empty when it can."""
    if config.worker_threads == 0:
        return "worker_threads is 0 in its configuration"
    if config.worker:
        return ""
    for package in ("tensorflow", "tensorflow_federated"):
        if find_spec(package) is None:
            return f"the package {package} is not installed: install p2pml with its extra, p2pml[train]"
    return ""


class NoWorker:
    """Stands where a `WorkerSupervisor` would; every call is refused with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    rests: tuple[str, ...] = ()
    hello = limits = None
    starts = 0

    @property
    def status(self) -> str:
        return f"unavailable: {self._reason}"

    async def rest(self, reason: str, resting: bool) -> None:
        """There is nothing to stop."""

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None = None) -> R:
        """Raises WorkerUnavailable."""
        raise WorkerUnavailable(self._reason)
