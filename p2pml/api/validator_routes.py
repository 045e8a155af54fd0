"""The end points of validators, parameters and sponsoring; who may use which says `p2pml.api.routes`."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from p2pml.api.facade import ValidatorFacade
from p2pml.node.validator_views import (
    ParametersView,
    RegistrationView,
    SponsorInviteView,
    ValidatorDetailView,
)
from p2pml.node.views import SubmittedView

MAX_AMOUNT = 2**63


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RegisterRequest(_Request):
    """A name, and base units to add to the bond; without them what is usual."""

    name: str | None = Field(None, max_length=64)
    bond: int | None = Field(None, ge=0, le=MAX_AMOUNT)


class SponsoredRequest(RegisterRequest):
    """The same, to be signed and paid by the account with the address `sponsor`."""

    sponsor: str = Field(max_length=128)


class ProposeRequest(_Request):
    """A data set by info-hash or name, and quality bounds in ppm; without them those that hold."""

    dataset: str = Field(min_length=1, max_length=128)
    q_min: int | None = None
    q_ref: int | None = None


class ApproveRequest(_Request):
    """An open proposal's id, or the first digits of it."""

    proposal: str = Field(min_length=1, max_length=64)


class InviteRequest(_Request):
    """Base units of bond for each newcomer, how many of them, and for how many hours."""

    bond: int | None = Field(None, ge=0, le=MAX_AMOUNT)
    uses: int = Field(1, ge=1)
    hours: int = Field(168, ge=1)


def read_validator_routes(node: ValidatorFacade) -> APIRouter:
    """Looking at the parameters and at one validator."""
    routes = APIRouter(tags=["chain"])

    @routes.get("/parameters")
    async def parameters() -> ParametersView:
        return node.parameters()

    @routes.get("/validator")
    async def own() -> ValidatorDetailView:
        return node.validator(None)

    @routes.get("/validators/{who}")
    async def validator(who: str) -> ValidatorDetailView:
        return node.validator(who)

    return routes


def write_validator_routes(node: ValidatorFacade) -> APIRouter:
    """Registering, proposing, approving, and promising to pay for others."""
    routes = APIRouter(tags=["changes"])

    @routes.post("/validator", status_code=202)
    async def register(request: RegisterRequest) -> SubmittedView:
        return await node.register(request.name, request.bond)

    @routes.post("/validator/consent")
    async def registration(request: SponsoredRequest) -> RegistrationView:
        return await node.registration(request.name, request.bond, request.sponsor)

    @routes.post("/parameters/proposals", status_code=202)
    async def propose(request: ProposeRequest) -> SubmittedView:
        return await node.propose(request.dataset, request.q_min, request.q_ref)

    @routes.post("/parameters/approvals", status_code=202)
    async def approve(request: ApproveRequest) -> SubmittedView:
        return await node.approve(request.proposal)

    @routes.post("/invites")
    async def invite(request: InviteRequest) -> SponsorInviteView:
        return await node.invite(request.bond, request.uses, request.hours)

    return routes
