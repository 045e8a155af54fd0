"""A node's answers about validators, parameters and sponsoring: `p2pml.api.facade.ValidatorFacade`."""

from __future__ import annotations

from dataclasses import replace

from chain import address
from chain.codec import pack
from chain.errors import InvalidTransaction, ParamsError
from chain.quality import BUNDLED, INFOHASH_BYTES
from chain.state import State
from chain.transactions import ParamUpdate
from p2pml.errors import ExitCode, UserError
from p2pml.node import views
from p2pml.node.chain_service import ChainService
from p2pml.node.data_service import DataService
from p2pml.node.registering import Registrar
from p2pml.node.sponsoring import Sponsoring
from p2pml.node.tx_sender import TxSender
from p2pml.node.validator_views import (
    ParametersView,
    RegistrationView,
    SponsorInviteView,
    ValidatorDetailView,
    parameters_view,
    validator_view,
)

MIN_PREFIX = 8
"""Digits of a proposal's id that may stand for it."""


class ValidatorApi:
    """See the facade for what each method promises.

    Args:
        chain, data: to look at.
        sender: of this node's account.
        registrar, sponsoring: of the same account.
    """

    def __init__(
        self,
        chain: ChainService,
        data: DataService,
        sender: TxSender,
        registrar: Registrar,
        sponsoring: Sponsoring,
    ) -> None:
        self._chain, self._data, self._sender = chain, data, sender
        self._registrar, self._sponsoring = registrar, sponsoring

    def parameters(self) -> ParametersView:
        return parameters_view(self._chain.state(), self._chain.next_slot())

    def validator(self, who: str | None) -> ValidatorDetailView:
        public = self._sender.account if who is None else public_of(self._chain.state(), who)
        own = public == self._sender.account
        found = validator_view(self._chain.state(), self._chain.next_slot(), public, own)
        if found is None:
            raise no_validator(who, own)
        return found

    async def register(self, name: str | None, bond: int | None) -> views.SubmittedView:
        return views.SubmittedView((await self._registrar.register(name, bond)).hex())

    async def registration(self, name: str | None, bond: int | None, sponsor: str) -> RegistrationView:
        wish = self._registrar.wish(name, bond, _account(sponsor))
        return RegistrationView(pack(wish.to_item()).hex(), wish.bond, self._chain.genesis.params.min_fee)

    async def propose(self, dataset: str, q_min: int | None, q_ref: int | None) -> views.SubmittedView:
        state, slot = self._chain.state(), self._chain.next_slot()
        now = state.baseline(slot // self._chain.genesis.params.slots_per_epoch)
        try:
            change = replace(
                now,
                infohash=self._infohash(dataset),
                q_min=now.q_min if q_min is None else q_min,
                q_ref=now.q_ref if q_ref is None else q_ref,
            )
        except ParamsError as error:
            raise UserError(
                f"this cannot be proposed: {error}", "correct the bounds", ExitCode.USAGE
            ) from error
        return await self._say(ParamUpdate(change))

    async def approve(self, proposal: str) -> views.SubmittedView:
        opened = [entry.id for entry in self._chain.state().governance().proposals]
        found = [known for known in opened if known.hex().startswith(proposal.lower())]
        if len(proposal) < MIN_PREFIX or len(found) != 1:
            raise UserError(
                f"{proposal!r} names no open proposal" if not found else f"{proposal!r} is too short",
                "`p2pml chain params` lists the open ones",
                ExitCode.USAGE,
            )
        return await self._say(ParamUpdate(found[0]))

    async def invite(self, bond: int | None, uses: int, hours: int) -> SponsorInviteView:
        terms = await self._sponsoring.create(bond, uses, hours)
        return SponsorInviteView(
            address.encode(terms.account), terms.secret.hex(), terms.bond, terms.expires_ms
        )

    async def _say(self, payload: ParamUpdate) -> views.SubmittedView:
        try:
            return views.SubmittedView((await self._sender.submit(payload)).hex())
        except UserError as error:
            if isinstance(error.__cause__, InvalidTransaction):
                cause = f"the chain does not take it: {error.__cause__}"
                raise UserError(cause, "see `p2pml chain params` and `p2pml validator show`") from error
            raise

    def _infohash(self, dataset: str) -> bytes:
        """Of 40 hexadecimal digits, a data set's name on the chain, or one that this node has."""
        try:
            given = bytes.fromhex(dataset)
        except ValueError:
            given = b""
        if len(given) == INFOHASH_BYTES:
            return given
        if dataset == "bundled":
            return BUNDLED
        announced = self._chain.state().dataset_by_name(dataset)
        if announced is not None and len(announced.infohash) == INFOHASH_BYTES:
            return announced.infohash
        return self._data.info(dataset).infohash


def public_of(state: State, who: str) -> bytes:
    """A validator's 32-byte account by its address or its name.

    Raises:
        UserError: no address, or no name of exactly one validator.
    """
    if who.startswith(address.PREFIX):
        return _account(who)
    named = [entry.public for entry in state.validators() if entry.name == who]
    if len(named) != 1:
        cause = f"{len(named)} validators are" if named else "no validator is"
        raise views.NotFound(
            f"{cause} called {who!r}", "give its address, see `p2pml chain validators --json`"
        )
    return named[0]


def no_validator(who: str | None, own: bool) -> views.NotFound:
    """What to say of an account that never registered."""
    fix = "`p2pml validator register` makes it one" if own else "`p2pml chain validators` lists them"
    return views.NotFound(f"{'this node' if own else who} is no validator", fix)


def _account(text: str) -> bytes:
    try:
        return address.decode(text)
    except ValueError as error:
        raise UserError(f"{text!r} is not an address: {error}", "copy it again", ExitCode.USAGE) from error
