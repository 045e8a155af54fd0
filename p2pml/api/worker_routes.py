"""The end points of the worker; who may use which is said in `p2pml.api.routes`."""

from __future__ import annotations

from fastapi import APIRouter

from p2pml.api.facade import WorkerFacade
from p2pml.node.worker_views import WorkerView


def read_worker_routes(worker: WorkerFacade) -> APIRouter:
    """Looking at it."""
    routes = APIRouter(tags=["worker"])

    @routes.get("/worker")
    async def status() -> WorkerView:
        return worker.status()

    return routes


def write_worker_routes(worker: WorkerFacade) -> APIRouter:
    """Pausing it, and letting it go on."""
    routes = APIRouter(tags=["worker"])

    @routes.post("/worker/pause")
    async def pause() -> WorkerView:
        return await worker.pause()

    @routes.post("/worker/resume")
    async def resume() -> WorkerView:
        return await worker.resume()

    return routes
