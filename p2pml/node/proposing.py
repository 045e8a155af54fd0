"""Proposing: in each slot that draws this node's key, a block at the time of its rank."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from chain.producer import ProposerKeys, build_block, ranks_for
from chain.types import Block
from p2pml.storage.chain_db import ChainDb

if TYPE_CHECKING:
    from p2pml.node.chain_service import ChainService

log = logging.getLogger(__name__)


class Proposer:
    """Watches the slots for one validator.

    Args:
        service: the chain to extend.
        db: remembers the highest slot sealed, so that a restart cannot seal one twice.
        keys: the validator's.
    """

    def __init__(self, service: ChainService, db: ChainDb, keys: ProposerKeys) -> None:
        self._service, self._db, self.keys = service, db, keys

    async def run(self) -> None:
        """Propose, for ever."""
        while True:
            slot = max(self._service.slot_now() + 1, 1)
            await self._service.sleep_until(self._service.genesis.slot_start_ms(slot))
            await self._in_slot(slot)

    async def _in_slot(self, slot: int) -> None:
        genesis = self._service.genesis
        for rank in self._ranks(slot):
            await self._service.sleep_until(genesis.slot_start_ms(slot) + rank * genesis.params.rank_step_ms)
            # While we waited a better-ranked block, or another branch with another draw, may have come.
            if rank in self._ranks(slot) and self._service.caught_up:
                await self._propose(slot, rank)

    def _ranks(self, slot: int) -> tuple[int, ...]:
        state = self._service.state()
        return ranks_for(slot, self.keys.keypair, state) if state.slot < slot else ()

    async def _propose(self, slot: int, rank: int) -> None:
        if not await trio.to_thread.run_sync(self._db.reserve_slot, slot):
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
        records = pool.select_records(state, slot)
        return build_block(chain, slot, rank, self.keys, pool.select(state, slot), records)
