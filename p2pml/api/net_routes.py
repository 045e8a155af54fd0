"""The end points of connections and bans; who may use which is said in `p2pml.api.routes`."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from p2pml.api.facade import NetFacade
from p2pml.node.net_views import BanView, ConnectionView, PingView, UnbannedView

MAX_BAN_S = 10 * 366 * 86_400


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PingRequest(_Request):
    """A peer's id, name or a part of the id."""

    peer: str = Field(min_length=1, max_length=128)


class BanRequest(_Request):
    """A peer, for so many seconds; without them ten minutes, four times as long at each repetition."""

    peer: str = Field(min_length=1, max_length=128)
    seconds: float | None = Field(None, gt=0, le=MAX_BAN_S)
    reason: str = Field("", max_length=200)


def read_net_routes(net: NetFacade) -> APIRouter:
    """Looking at connections and bans."""
    routes = APIRouter(tags=["net"])

    @routes.get("/net/connections")
    async def connections() -> list[ConnectionView]:
        return net.connections()

    @routes.get("/net/bans")
    async def bans() -> list[BanView]:
        return net.bans()

    return routes


def write_net_routes(net: NetFacade) -> APIRouter:
    """Speaking to a peer, or no longer."""
    routes = APIRouter(tags=["net"])

    @routes.post("/net/ping")
    async def ping(request: PingRequest) -> PingView:
        return await net.ping(request.peer)

    @routes.post("/net/bans")
    async def ban(request: BanRequest) -> BanView:
        return net.ban(request.peer, request.seconds, request.reason)

    @routes.delete("/net/bans/{peer}")
    async def unban(peer: str) -> UnbannedView:
        return net.unban(peer)

    return routes
