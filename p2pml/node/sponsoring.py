"""Registering newcomers at this node's cost: invites with a secret, each good for so many accounts.

An invite, and each use of it before its transaction leaves, is in a journal first: a restart forgets nothing.
A use is an account; whoever asks again with the same one is told how far it is. The chain takes an account's
first registration once, so nothing is paid twice even if it has to be signed anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chain import vrf
from chain.errors import ChainError
from chain.transactions import Register, Tx
from p2pml.errors import ExitCode, UserError
from p2pml.net.host import Host
from p2pml.net.sponsor_exchange import MAX_BYTES, PROTOCOL, SECRET_BYTES, Answer, Outcome, Question
from p2pml.node.chain_reads import ChainReads
from p2pml.node.invite import SponsorTerms
from p2pml.node.tx_sender import TxSender
from p2pml.storage.journal import Journal, JournalError

log = logging.getLogger(__name__)

MAX_USES = 100
MAX_HOURS = 24 * 90
MAX_OPEN = 256
MAX_WAITING = 16
"""Questions that wait for their turn; one is answered at a time."""


@dataclass(slots=True)
class _Open:
    bond: int
    uses: int
    expires_ms: int
    taken: dict[bytes, Tx] = field(default_factory=dict)
    """By account the transaction that was signed last."""


class Sponsoring:
    """A node's invites at its own cost.

    Args:
        chain: to look at.
        sender: of the transactions of the account that pays.
        path: of the journal.
        clock_ms: Unix time in milliseconds.
    """

    def __init__(self, chain: ChainReads, sender: TxSender, path: Path, clock_ms: Callable[[], int]) -> None:
        self._chain, self._sender, self._path, self._clock_ms = chain, sender, path, clock_ms
        self._journal: Journal | None = None
        self._open: dict[str, _Open] = {}
        self._turn = trio.Lock()
        if path.exists():
            self._load()

    def serve(self, host: Host) -> None:
        """Answer newcomers."""

        async def answer(_peer: str, message: Any) -> Any:
            return (await self.answer(Question.from_message(message))).to_message()

        host.serve(PROTOCOL, answer, MAX_BYTES)

    async def create(self, bond: int | None, uses: int, hours: int) -> SponsorTerms:
        """Make an invite.

        Args:
            bond: base units for each newcomer; the network's least by default.
            uses: how many accounts it is good for.
            hours: how long.

        Raises:
            UserError: a number that is out of bounds, too many open invites, not enough to pay for one use.
        """
        least, fee = self._chain.genesis.params.bond, self._chain.genesis.params.min_fee
        bond = least if bond is None else bond
        if bond < least:
            raise _usage(f"a bond of {bond} base units is below the network's least of {least}", "give more")
        if not 1 <= uses <= MAX_USES or not 1 <= hours <= MAX_HOURS:
            raise _usage(
                f"{uses} uses within {hours} hours are out of bounds",
                f"choose 1 to {MAX_USES} uses and 1 to {MAX_HOURS} hours",
            )
        if self._chain.balance(self._sender.account) < bond + fee:
            raise UserError("this node's account cannot pay bond and fee", "see `p2pml wallet balance`")
        now = self._clock_ms()
        if sum(invite.expires_ms > now for invite in self._open.values()) >= MAX_OPEN:
            raise UserError(f"{MAX_OPEN} invites are open", "wait until some of them expire")
        terms = SponsorTerms(self._sender.account, os.urandom(SECRET_BYTES), bond, now + hours * 3_600_000)
        key = _key(terms.secret)
        await self._write("invite", key=key, bond=bond, uses=uses, expires_ms=terms.expires_ms)
        self._open[key] = _Open(bond, uses, terms.expires_ms)
        return terms

    async def answer(self, question: Question) -> Answer:
        """What a newcomer is told, after what it asks for is done."""
        if self._turn.statistics().tasks_waiting >= MAX_WAITING:
            return Answer(Outcome.BUSY)
        async with self._turn:
            if question.chain_id != self._chain.genesis.chain_id:
                return Answer(Outcome.OTHER_NETWORK)
            key = _key(question.secret)
            invite = self._open.get(key)
            if invite is None:
                return Answer(Outcome.UNKNOWN)
            wish = question.registration
            if wish.account not in invite.taken:
                refusal = self._refusal(invite, wish)
                return Answer(refusal) if refusal else await self._pay(key, invite, wish)
            return await self._follow(key, invite, invite.taken[wish.account])

    def _refusal(self, invite: _Open, wish: Register) -> Outcome | None:
        state, chain_id = self._chain.state(), self._chain.genesis.chain_id
        if self._clock_ms() > invite.expires_ms:
            return Outcome.EXPIRED
        if len(invite.taken) >= invite.uses:
            return Outcome.USED_UP
        known = state.validator(wish.account)
        if known is not None:
            return Outcome.BARRED if known.barred_until > state.finality.epochs else Outcome.REGISTERED
        sponsor = self._sender.account
        if (wish.bond, wish.sequence) != (invite.bond, 1) or wish.account == sponsor:
            return Outcome.OTHER_TERMS
        if not vrf.valid_key(wish.vrf_public) or state.vrf_owner(wish.vrf_public) is not None:
            return Outcome.OTHER_TERMS
        if not wish.consents(chain_id, sponsor):
            return Outcome.OTHER_TERMS
        if self._chain.balance(sponsor) < wish.bond + self._chain.genesis.params.min_fee:
            return Outcome.NO_MEANS
        return None

    async def _pay(self, key: str, invite: _Open, wish: Register) -> Answer:
        """Sign, write down, send."""

        async def keep(tx: Tx) -> None:
            await self._write("use", key=key, tx=tx.encoded.hex())
            invite.taken[wish.account] = tx

        try:
            tx_id = await self._sender.submit(wish, keep)
        except UserError as error:
            log.warning("a newcomer cannot be registered now: %s", error)
            return Answer(Outcome.BUSY)
        return Answer(Outcome.TAKEN, tx_id)

    async def _follow(self, key: str, invite: _Open, tx: Tx) -> Answer:
        """Where a use that was paid for stands; one that got lost is sent again."""
        wish = tx.payload
        assert isinstance(wish, Register)
        included = await self._chain.tx(tx.id)
        if included is not None:
            return Answer(Outcome.TAKEN, tx.id, included.height)
        if self._chain.state().validator(wish.account) is not None:
            return Answer(Outcome.REGISTERED)  # by another transaction
        if self._chain.waiting_tx(tx.id) is not None:
            return Answer(Outcome.TAKEN, tx.id)
        try:
            await self._sender.resubmit(tx)
        except UserError:  # it expired, or its nonce went to another one
            return await self._pay(key, invite, wish)
        return Answer(Outcome.TAKEN, tx.id)

    def _load(self) -> None:
        """Take up what is on disk; a damaged journal is set aside, and its invites hold no more."""
        try:
            self._journal = Journal(self._path)
            for entry in self._journal.entries:
                self._replay(entry)
        except (JournalError, ChainError, KeyError, TypeError, ValueError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            log.error("the record of sponsoring invites is damaged (%s); it is kept as %s", error, aside)
            if self._journal is not None:
                self._journal.close()
            self._path.replace(aside)
            self._journal, self._open = None, {}

    def _replay(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "invite":
            self._open[entry["key"]] = _Open(int(entry["bond"]), int(entry["uses"]), int(entry["expires_ms"]))
        else:
            tx = Tx.decode(bytes.fromhex(entry["tx"]))
            if not isinstance(tx.payload, Register):
                raise ValueError("a use that registers nobody")
            self._open[entry["key"]].taken[tx.payload.account] = tx

    async def _write(self, kind: str, **data: Any) -> None:
        def write() -> None:
            if self._journal is None:
                self._journal = Journal(self._path)
            self._journal.append(kind, **data)

        try:
            await trio.to_thread.run_sync(write)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror}", "free some space") from error


def _key(secret: bytes) -> str:
    """What the journal calls an invite: its secret is not on this disk."""
    return hashlib.sha256(secret).hexdigest()


def _usage(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.USAGE)
