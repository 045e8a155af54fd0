"""Proposing: in each slot that draws this node's key, a block at the time of its rank, if one is wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from chain.idle import wants_block
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.types import Block
from p2pml.storage.signing_journal import SigningJournal

if TYPE_CHECKING:
    from p2pml.node.chain_service import ChainService

log = logging.getLogger(__name__)

MAX_BEHIND = 1
"""Blocks that a peer may be ahead of us while we still propose: its newest one may just be on its way."""
BELIEVE_SLOTS = 4
REARM_SLOTS = 64


class Patience:
    """Whether to hold back blocks of our own because peers claim a longer chain.

    Behind, a block would only make a fork. But a claim costs nothing: without real blocks coming in, it is
    believed for a few slots and then not again for many, or one liar could silence every validator.

    Args:
        slot_s: seconds of a slot.
    """

    def __init__(self, slot_s: float) -> None:
        self._believe, self._rearm = BELIEVE_SLOTS * slot_s, REARM_SLOTS * slot_s
        self._since = float("-inf")
        self._progress = float("-inf")

    def progressed(self, now: float) -> None:
        """Sync brought the head forward."""
        self._progress = now

    def holds_back(self, behind: int, now: float) -> bool:
        """Whether to propose nothing now, when the best claim is `behind` blocks ahead of us."""
        if behind <= MAX_BEHIND:
            return False
        if now - self._since > self._rearm:
            self._since = now
        return now - max(self._since, self._progress) <= self._believe


class Proposer:
    """Watches the slots for one validator.

    Args:
        service: the chain to extend.
        journal: remembers the highest slot sealed, so that a restart cannot seal one twice.
        keys: the validator's.
        idle: whether to propose only what is wanted (`chain.idle`), instead of a block in every drawn slot.
    """

    def __init__(
        self, service: ChainService, journal: SigningJournal, keys: ProposerKeys, idle: bool = True
    ) -> None:
        self._service, self._journal, self.keys, self._idle = service, journal, keys, idle

    async def run(self) -> None:
        """Propose, for ever."""
        while True:
            slot = max(self._service.slot_now() + 1, 1)
            await self._service.sleep_until(self._service.genesis.slot_start_ms(slot))
            await self._in_slot(slot)

    async def _in_slot(self, slot: int) -> None:
        genesis = self._service.genesis
        for rank in self._ranks(slot):
            # A fallback stands in for a leader that is away: it asks when the leader would have.
            if not self._wanted(slot):
                continue
            await self._service.sleep_until(genesis.slot_start_ms(slot) + rank * genesis.params.rank_step_ms)
            # While we waited a better-ranked block, or another branch with another draw, may have come.
            if rank in self._ranks(slot) and self._service.may_act and (not rank or self._wanted(slot)):
                await self._propose(slot, rank)

    def _wanted(self, slot: int) -> bool:
        return not self._idle or wants_block(self._service.chain, self._service.pool, slot)

    def _ranks(self, slot: int) -> tuple[int, ...]:
        state = self._service.state()
        weight = state.table_at(slot).get(self.keys.public)
        # A table may still have the VRF key of an earlier registration: by ours no block would hold.
        if weight is None or weight.vrf_public != self.keys.vrf_public:
            return ()
        return ranks_for(slot, self.keys.keypair, state) if state.slot < slot else ()

    async def _propose(self, slot: int, rank: int) -> None:
        if not await trio.to_thread.run_sync(self._journal.reserve_slot, slot):
            log.warning("slot %d was sealed before: proposing nothing", slot)
            return
        if rank not in self._ranks(slot):
            return
        block = self._build(slot, rank)
        error = await self._service.offer(block)
        if error is not None:
            log.error("our own block of slot %d is invalid: %s", slot, error)
            return
        await self._service.publish_block(block)
        self._service.announce_proposed(block)

    def _build(self, slot: int, rank: int) -> Block:
        chain, pool, state = self._service.chain, self._service.pool, self._service.state()
        records, ratings = pool.select_records(state, slot), pool.select_ratings(state, slot)
        txs = pool.select(state, slot)
        return build_block(chain, slot, rank, self.keys, txs, records, ratings=ratings)
