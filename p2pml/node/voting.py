"""Voting: others' votes come by gossip, and at half of a slot this validator gives its own word, if it helps.

A vote is about the head and about finality, see `chain.votes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from chain.crypto import Keypair
from chain.gossip import Verdict, validate_vote
from chain.idle import wants_vote
from chain.votes import Link, Vote
from chain.voting import owed_vote
from p2pml.net.gossip import Gossip
from p2pml.storage.signing_journal import SigningJournal

if TYPE_CHECKING:
    from p2pml.node.chain_service import ChainService

log = logging.getLogger(__name__)

VOTES = "votes"


class Voting:
    """Receives votes, and casts those of one validator.

    Args:
        service: the chain to vote on.
        gossip: running while this runs.
        journal: remembers what was voted for, so that a restart cannot contradict it.
        keypair: the validator's; None for a node that only listens.
        count: gives a checked vote to the owner of the chain.
        idle: whether to vote only while something is not final (`chain.idle`), instead of in every slot.
    """

    def __init__(
        self,
        service: ChainService,
        gossip: Gossip,
        journal: SigningJournal,
        keypair: Keypair | None,
        count: Callable[[Vote], None],
        idle: bool = True,
    ) -> None:
        self._service, self._gossip, self._journal = service, gossip, journal
        self._keypair, self._count, self._idle = keypair, count, idle
        self._last: Link | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Listen, and vote if there is a key, until the nursery is cancelled."""
        self._gossip.subscribe(VOTES, self._judge, lambda peer, data: None)
        if self._keypair is not None:
            nursery.start_soon(self._vote_for_ever, self._keypair)

    def _judge(self, data: bytes) -> Verdict:
        checked = validate_vote(data, self._service.chain, self._service.clock_ms())
        if checked.verdict is Verdict.ACCEPT and checked.item is not None:
            self._count(checked.item)
        return checked.verdict

    async def _vote_for_ever(self, keypair: Keypair) -> None:
        """At half slot the slot's block has come, if there is one."""
        genesis = self._service.genesis
        half = genesis.params.slot_ms // 2
        slot = 0
        while True:
            running = self._service.slot_now()
            over = self._service.clock_ms() >= genesis.slot_start_ms(running) + half
            slot = max(running + over, slot + 1)
            await self._service.sleep_until(genesis.slot_start_ms(slot) + half)
            if self._service.may_act:
                await self._vote(keypair, slot)

    async def _vote(self, keypair: Keypair, slot: int) -> None:
        if self._idle and not wants_vote(self._service.chain):
            return
        vote = owed_vote(keypair, self._service.state(), slot, self._last)
        if vote is None:
            return
        if not await trio.to_thread.run_sync(self._journal.reserve_vote, vote):
            log.warning("the vote of slot %d could contradict an earlier one: casting none", slot)
            return
        self._last = vote.link
        self._count(vote)
        await self._gossip.publish(VOTES, vote.encoded)
