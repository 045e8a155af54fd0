"""A node's answers about its worker: `p2pml.api.facade.WorkerFacade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pml.errors import UserError
from p2pml.node.worker_views import LimitsView, WorkerView
from p2pml.worker.limits import WorkerLimits

if TYPE_CHECKING:
    from p2pml.node.node import Node


class WorkerApi:
    """See the facade for what each method promises."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def status(self) -> WorkerView:
        worker = self._node.worker
        state, reason = self._node.worker_state()
        hello = worker.hello
        return WorkerView(
            state=state,
            reason=reason,
            rests=list(worker.rests),
            pid=None if hello is None else hello.pid,
            versions={} if hello is None else hello.versions,
            isolated=None if hello is None else hello.isolated,
            starts=worker.starts,
            limits=_limits(worker.limits, self._node.config.worker_idle_only),
            task_minutes=self._node.config.max_task_minutes,
        )

    async def pause(self) -> WorkerView:
        return await self._set(True)

    async def resume(self) -> WorkerView:
        return await self._set(False)

    async def _set(self, paused: bool) -> WorkerView:
        state, reason = self._node.worker_state()
        if state == "off":
            raise UserError(f"this node has no worker: {reason}", "there is nothing to pause or resume")
        await self._node.pause.set(paused)
        self._node.events.emit("node.paused", paused=paused)
        return self.status()


def _limits(limits: WorkerLimits | None, idle_only: bool) -> LimitsView | None:
    if limits is None:
        return None
    return LimitsView(limits.threads, limits.cpu, limits.memory_bytes, limits.nice, idle_only)
