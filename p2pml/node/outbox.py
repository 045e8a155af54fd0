"""This node's own transactions, round records and rating items, kept waiting until a block has them.

They are gossiped once. Our pool may lose them (a reorganization, a better-paying one), so they are put back;
what others' pools lack they fetch from ours.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import trio

from chain.errors import InvalidRating, InvalidRecord, InvalidTransaction, PoolFull
from chain.rating.admission import check_time, stands
from chain.rating.items import Point
from chain.training_records import RoundRecord
from chain.transactions import Tx
from p2pml.errors import UserError
from p2pml.node.chain_reads import ChainReads
from p2pml.node.pool_gossip import PoolGossip

log = logging.getLogger(__name__)

AGAIN_SLOTS = 3
"""Slots between two looks."""


class Outbox:
    """What this node has submitted and no block has yet.

    Args:
        reads: the chain; its pool takes what is submitted.
        gossip: carries it to the others.
    """

    def __init__(self, reads: ChainReads, gossip: PoolGossip) -> None:
        self._reads, self._gossip = reads, gossip
        self._txs: dict[bytes, Tx] = {}
        self._records: dict[tuple[bytes, int], RoundRecord] = {}
        self._points: dict[bytes, Point] = {}

    async def run(self) -> None:
        """Put back what fell out of the pool, for ever."""
        while True:
            await trio.sleep(AGAIN_SLOTS * self._reads.genesis.params.slot_ms / 1000)
            for tx in list(self._txs.values()):
                if not await self._still_waits(tx):
                    self._txs.pop(tx.id, None)
            for key, record in list(self._records.items()):
                if not self._record_waits(record):
                    self._records.pop(key, None)
            for point in list(self._points.values()):
                if not self._point_waits(point):
                    self._points.pop(point.id, None)

    def submit_tx(self, tx: Tx) -> None:
        """Take a transaction. Raises InvalidTransaction or UserError."""
        try:
            fresh = self._reads.pool.add(tx, self._reads.state(), self._reads.next_slot())
        except PoolFull as error:
            raise UserError(str(error), "try again in a minute") from error
        self._txs[tx.id] = tx
        if fresh:
            self._gossip.send_tx(tx)

    def submit_record(self, record: RoundRecord) -> None:
        """Take a round record. Raises InvalidRecord or UserError."""
        try:
            fresh = self._reads.pool.add_record(record, self._reads.state())
        except PoolFull as error:
            raise UserError(str(error), "try again in a minute") from error
        self._records[record.job, record.round] = record
        if fresh:
            self._gossip.send_record(record)

    def submit_rating(self, point: Point) -> None:
        """Take a rating item. Raises UserError."""
        reads = self._reads
        try:
            fresh = reads.pool.ratings.add(point, reads.state(), reads.slot_now())
        except InvalidRating as error:
            raise UserError(
                f"the {point.TAG} item cannot be sent: {error}", "see `p2pml rating show`"
            ) from error
        except PoolFull as error:
            raise UserError(str(error), "try again in a minute") from error
        self._points[point.id] = point
        if fresh:
            self._gossip.send_rating(point)

    async def _still_waits(self, tx: Tx) -> bool:
        if await self._reads.tx(tx.id) is not None:
            return False
        try:
            self._reads.pool.add(tx, self._reads.state(), self._reads.next_slot())
        except PoolFull:
            return True
        except InvalidTransaction as error:
            log.info("a transaction of ours cannot be included any more: %s", error)
            return False
        return True

    def _record_waits(self, record: RoundRecord) -> bool:
        job = self._reads.job(record.job)
        if job is None or not job.status.active or job.next_round > record.round:
            return False
        with suppress(InvalidRecord, PoolFull):
            self._reads.pool.add_record(record, self._reads.state())
        return True

    def _point_waits(self, point: Point) -> bool:
        reads = self._reads
        state, slot = reads.state(), reads.slot_now()
        try:
            check_time(point, state, slot)
        except InvalidRating:
            return False
        if not stands(point, state):  # a reorganization may take it off the chain again
            with suppress(InvalidRating, PoolFull):
                reads.pool.ratings.put_back(point, state, slot)
        return True
