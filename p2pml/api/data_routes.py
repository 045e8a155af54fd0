"""The end points of datasets; who may use which is said in `p2pml.api.routes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Request
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from p2pml.api.disconnects import while_connected
from p2pml.api.facade import DataFacade
from p2pml.errors import ExitCode, UserError
from p2pml.node import views
from p2pml.node.data_views import RemovedView, TarView, VerifiedView
from p2pml.storage.torrent_files import Choice

MAX_MEMBERS = 100_000


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SeedRequest(_Request):
    """Offer a file or folder of this machine, by its absolute path."""

    action: Literal["seed"]
    path: str
    name: str | None = Field(None, min_length=1, max_length=128)
    private: bool = False
    allowed: list[str] = Field(default_factory=list, max_length=256)
    hybrid: bool = True
    trackers: list[str] = Field(default_factory=list, max_length=20)


class FileChoice(_Request):
    """Files by a pattern for their paths, and their priority: 0 is not wanted, 4 the usual, 7 the first; or
    only the bytes `begin` to `end` (exclusive) of each.
    """

    pattern: str = Field(min_length=1, max_length=4096)
    priority: int = Field(4, ge=0, le=7)
    begin: int = Field(0, ge=0)
    end: int | None = Field(None, ge=0)


class GetRequest(_Request):
    """Fetch a dataset by name, by info-hash, or by its metainfo file (base64). `choices` stand in place of
    `wanted`.
    """

    action: Literal["get"]
    dataset: str = Field("", max_length=256)
    metainfo: Base64Bytes | None = None
    wanted: list[int] | None = Field(None, max_length=100_000)
    peers: list[str] = Field(default_factory=list, max_length=64)
    choices: list[FileChoice] = Field(default_factory=list, max_length=1000)


DatasetRequest = Annotated[SeedRequest | GetRequest, Body(discriminator="action")]


def read_data_routes(data: DataFacade) -> APIRouter:
    """Looking at datasets."""
    routes = APIRouter(tags=["data"])

    @routes.get("/datasets")
    async def datasets() -> list[views.DatasetView]:
        return data.datasets()

    @routes.get("/datasets/{name_or_hash}")
    async def dataset(name_or_hash: str) -> views.DatasetView:
        return data.dataset(name_or_hash)

    @routes.get("/datasets/{name_or_hash}/members")
    async def members(
        name_or_hash: str, limit: Annotated[int, Query(ge=1, le=MAX_MEMBERS)] = 100
    ) -> list[TarView]:
        return await data.tars(name_or_hash, limit)

    return routes


def write_data_routes(data: DataFacade) -> APIRouter:
    """Adding, checking, stopping and removing datasets."""
    routes = APIRouter(tags=["data"])

    @routes.post("/datasets", status_code=202)
    async def datasets(http: Request, request: DatasetRequest) -> views.DatasetView:
        if isinstance(request, SeedRequest):
            seeding = data.seed(
                absolute(request.path),
                request.name,
                request.private,
                tuple(request.allowed),
                request.hybrid,
                tuple(request.trackers),
            )
            return await while_connected(http, seeding)
        wanted = None if request.wanted is None else tuple(request.wanted)
        choices = tuple(Choice(**choice.model_dump()) for choice in request.choices)
        beginning = data.get(request.dataset, request.metainfo, wanted, tuple(request.peers), choices)
        return await while_connected(http, beginning)

    @routes.delete("/datasets/{name_or_hash}")
    async def remove(name_or_hash: str, with_data: bool = False) -> RemovedView:
        return await data.remove(name_or_hash, with_data)

    @routes.post("/datasets/{name_or_hash}/verify")
    async def verify(name_or_hash: str) -> VerifiedView:
        return await data.verify(name_or_hash)

    @routes.post("/datasets/{name_or_hash}/pause")
    async def pause(name_or_hash: str) -> views.DatasetView:
        return await data.pause(name_or_hash)

    @routes.post("/datasets/{name_or_hash}/resume")
    async def resume(name_or_hash: str) -> views.DatasetView:
        return await data.resume(name_or_hash)

    return routes


def absolute(text: str) -> Path:
    """A path of this machine from a request.

    Raises:
        UserError: it does not begin at the root.
    """
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise UserError(f"{text!r} is not an absolute path", "give the path from the root", ExitCode.USAGE)
    return path
