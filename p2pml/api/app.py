"""The node's HTTP application, in two forms: looking only (the loopback port) and everything (the home's
socket).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from p2pml.api import events, problems
from p2pml.api.facade import NodeFacade
from p2pml.api.guards import BodyGuard, HostGuard
from p2pml.api.routes import read_routes, write_routes

PREFIX = "/api/v1"


def create_app(node: NodeFacade, *, full: bool) -> FastAPI:
    """The application over one node.

    Args:
        node: what answers.
        full: with the end points that change something (for the Unix socket); without, loopback Host names
            only.
    """
    app = FastAPI(title="p2pml node", docs_url=None, redoc_url=None)
    problems.install(app)
    app.include_router(_health_routes(node))
    app.include_router(read_routes(node), prefix=PREFIX)
    app.include_router(events.router(node), prefix=PREFIX)
    if full:
        app.include_router(write_routes(node), prefix=PREFIX)
    else:
        app.add_middleware(HostGuard)
    app.add_middleware(BodyGuard)
    return app


def _health_routes(node: NodeFacade) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", response_model=None)
    async def ready() -> JSONResponse | dict[str, Any]:
        reason = node.not_ready_reason()
        if reason:
            return problems.problem(503, reason, "wait a moment")
        return {"status": "ready"}

    return routes
