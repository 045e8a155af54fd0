"""The end points. `read_routes` serve anyone on this machine; `write_routes` only who may open the home's
socket.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from p2pml.api.data_routes import absolute, read_data_routes, write_data_routes
from p2pml.api.facade import NodeFacade
from p2pml.api.net_routes import read_net_routes, write_net_routes
from p2pml.api.rating_routes import read_rating_routes
from p2pml.api.validator_routes import read_validator_routes, write_validator_routes
from p2pml.api.worker_routes import read_worker_routes, write_worker_routes
from p2pml.node import views
from p2pml.node.job_views import MaterialView

MAX_TX_HEX = 2 * 16 * 1024
MAX_BATCH = 256
MAX_SPEC_CHARS = 256 * 1024


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SubmitRequest(_Request):
    """A signed transaction, encoded, as hexadecimal text."""

    transaction: str = Field(max_length=MAX_TX_HEX, pattern=r"^([0-9a-f]{2})+$")


class BatchRequest(_Request):
    """Signed transactions, each encoded, as hexadecimal text; taken one after the other."""

    transactions: list[Annotated[str, Field(max_length=MAX_TX_HEX, pattern=r"^([0-9a-f]{2})+$")]] = Field(
        min_length=1, max_length=MAX_BATCH
    )


class JobRequest(_Request):
    """A job spec (YAML text); relative paths in it start at `base_dir`, errors in it name `origin`."""

    spec: str = Field(max_length=MAX_SPEC_CHARS)
    base_dir: str
    origin: str = "spec"


class Accepted(BaseModel):
    """The request was taken; its effect shows later."""

    accepted: bool = True


def read_routes(node: NodeFacade) -> APIRouter:
    """Everything that only looks: status and peers here, then the chain's, the datasets' and the jobs' end
    points.
    """
    routes = APIRouter()

    @routes.get("/status")
    async def status() -> views.StatusView:
        return node.status()

    @routes.get("/peers")
    async def peers() -> list[views.PeerView]:
        return node.peers()

    routes.include_router(_chain_routes(node))
    routes.include_router(read_data_routes(node.data))
    routes.include_router(_work_routes(node))
    routes.include_router(read_net_routes(node.net))
    routes.include_router(read_validator_routes(node.validating))
    routes.include_router(read_rating_routes(node.rating))
    routes.include_router(read_worker_routes(node.worker))
    return routes


def _chain_routes(node: NodeFacade) -> APIRouter:
    routes = APIRouter(tags=["chain"])

    @routes.get("/accounts/{address}")
    async def account(address: str) -> views.AccountView:
        return await node.account(address)

    @routes.get("/transactions/{tx_id}")
    async def transaction(tx_id: str) -> views.TransactionView:
        return await node.transaction(tx_id)

    @routes.get("/blocks")
    async def blocks(
        first: Annotated[int | None, Query(ge=0)] = None, count: Annotated[int, Query(ge=1, le=500)] = 20
    ) -> list[views.BlockView]:
        return await node.blocks(first, count)

    @routes.get("/blocks/{id_or_height}")
    async def block(id_or_height: str) -> views.BlockView:
        return await node.block(id_or_height)

    @routes.get("/validators")
    async def validators() -> list[views.ValidatorView]:
        return node.validators()

    @routes.get("/supply")
    async def supply() -> views.SupplyView:
        return node.supply()

    @routes.get("/checkpoint")
    async def checkpoint() -> views.CheckpointView:
        return node.checkpoint()

    return routes


def _work_routes(node: NodeFacade) -> APIRouter:
    routes = APIRouter(tags=["work"])

    @routes.get("/jobs")
    async def jobs() -> list[dict[str, Any]]:
        return node.jobs()

    @routes.get("/jobs/{job_id}")
    async def job(job_id: str) -> dict[str, Any]:
        return node.job(job_id)

    @routes.get("/jobs/{job_id}/spec")
    async def job_spec(job_id: str) -> dict[str, str]:
        return {"spec": await node.job_spec(job_id)}

    @routes.get("/jobs/{job_id}/log")
    async def job_log(job_id: str, after: Annotated[int, Query(ge=0)] = 0) -> list[dict[str, Any]]:
        return await node.job_log(job_id, after)

    return routes


def write_routes(node: NodeFacade) -> APIRouter:
    """Everything that changes something."""
    routes = APIRouter(tags=["changes"])

    @routes.post("/transactions", status_code=202)
    async def submit(request: SubmitRequest) -> views.SubmittedView:
        return await node.submit(bytes.fromhex(request.transaction))

    @routes.post("/transactions/batch", status_code=202)
    async def submit_batch(request: BatchRequest) -> views.BatchView:
        return await node.submit_batch([bytes.fromhex(each) for each in request.transactions])

    routes.include_router(write_data_routes(node.data))
    routes.include_router(write_net_routes(node.net))
    routes.include_router(write_validator_routes(node.validating))
    routes.include_router(write_worker_routes(node.worker))

    @routes.post("/jobs", status_code=202)
    async def start_job(request: JobRequest) -> views.StartedJobView:
        return await node.start_job(request.spec, absolute(request.base_dir), request.origin)

    @routes.post("/jobs/quote")
    async def quote_job(request: JobRequest) -> views.QuoteView:
        return await node.quote_job(request.spec, absolute(request.base_dir), request.origin)

    @routes.get("/jobs/{job_id}/material")
    async def job_material(job_id: str) -> MaterialView:
        return await node.job_material(job_id)

    @routes.post("/jobs/{job_id}/resume", status_code=202)
    async def resume_job(job_id: str) -> views.StartedJobView:
        return await node.resume_job(job_id)

    @routes.delete("/jobs/{job_id}", status_code=202)
    async def stop_job(job_id: str) -> Accepted:
        await node.stop_job(job_id)
        return Accepted()

    @routes.post("/reachability")
    async def reachability() -> list[views.ReachView]:
        return await node.reachability()

    @routes.post("/shutdown", status_code=202)
    async def shutdown() -> Accepted:
        node.request_shutdown()
        return Accepted()

    return routes
