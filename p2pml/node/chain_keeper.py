"""Keeps snapshots of what is final, drops the blocks below them where that is wanted, and finds states for
peers that begin at a trusted checkpoint.
"""

from __future__ import annotations

import logging
from itertools import takewhile

import trio

from chain.certificate import certify
from chain.errors import ChainError
from chain.forkchoice import Start
from chain.header import SealedHeader
from chain.recent import Recent
from chain.snapshot import Snapshot, TrustedPoint
from chain.state import State
from p2pml.errors import UserError
from p2pml.node.chain_reads import ChainReads
from p2pml.storage.chain_snapshots import KEEP, ChainSnapshots

log = logging.getLogger(__name__)

_MADE = 4
"""Snapshots kept in memory in the form in which peers get them."""


class ChainKeeper:
    """Writes about one snapshot an epoch.

    Args:
        reads: the chain and its database.
        store: where snapshots are kept.
        prune: whether blocks below the oldest snapshot are dropped.

    Attributes:
        lowest_body: the lowest height of the best branch from which on the blocks are here whole.
    """

    def __init__(self, reads: ChainReads, store: ChainSnapshots, prune: bool) -> None:
        self._reads, self._store, self._prune = reads, store, prune
        self._epoch = -1
        self._stored: Recent[bytes, tuple[State, SealedHeader]] = Recent(KEEP)
        self._made: Recent[bytes, Snapshot] = Recent(_MADE)
        self.lowest_body = 1

    async def begin(self, start: Start | None) -> None:
        """Take up what the chain begins with."""
        if start is not None:
            self._epoch = start.state.epoch
            self._stored.put(start.state.block_id, (start.state, start.sealed))
        await self._look_lowest()

    async def run(self) -> None:
        """Follow the chain until cancelled."""
        while True:
            await self._keep_final()
            if self._prune:
                await self._drop_old()
            await self._reads.wait_change()

    async def found(self, block_id: bytes) -> Snapshot | None:
        """The snapshot after a final block that is kept on disk or in memory."""
        made = self._made.get(block_id)
        if made is not None:
            return made
        pair = self._stored.get(block_id) or self._final(block_id)
        if pair is None:
            await trio.lowlevel.checkpoint()
            return None
        try:
            made = await trio.to_thread.run_sync(Snapshot, *pair)
        except ChainError as error:
            log.debug("no snapshot for a peer: %s", error)
            return None
        self._made.put(block_id, made)
        return made

    def newest_point(self) -> TrustedPoint | None:
        """The newest final block as a checkpoint for others to trust; None before there is one."""
        chain = self._reads.chain
        block_id = chain.canonical_id(chain.final_height)
        if block_id is None or chain.final_height == 0:
            return None
        state = chain.state(block_id)
        return TrustedPoint(state.height, block_id, state.root())

    def _final(self, block_id: bytes) -> tuple[State, SealedHeader] | None:
        """A final block that is in memory."""
        chain = self._reads.chain
        height, block = chain.height_of(block_id), chain.block(block_id)
        if height is None or block is None or height > chain.final_height:
            return None
        return chain.state(block_id), block.sealed

    async def _keep_final(self) -> None:
        """Write a snapshot if an epoch has become final since the last one."""
        chain = self._reads.chain
        block_id = chain.canonical_id(chain.final_height) or b""
        pair = self._final(block_id)
        if pair is None or pair[0].epoch <= self._epoch:
            return
        state, sealed = pair
        self._epoch = state.epoch
        head = chain.head.id
        after = list(takewhile(lambda block: block.height > state.height, chain.ancestors(head)))

        def write() -> Snapshot:
            snapshot = Snapshot(state, sealed)
            self._store.write(snapshot, certify(state, reversed(after)))
            return snapshot

        try:
            self._made.put(block_id, await trio.to_thread.run_sync(write))
        except (ChainError, UserError) as error:
            log.warning("no snapshot of the state at height %d: %s", state.height, error)
            return
        self._stored.put(block_id, pair)
        log.info("kept a snapshot of the state at height %d", state.height)

    async def _drop_old(self) -> None:
        """Drop blocks below the older of two snapshots: with one only, its damage would cost everything."""
        heights = await trio.to_thread.run_sync(self._store.heights)
        if len(heights) < KEEP or heights[-1] <= self.lowest_body:
            return
        while await trio.to_thread.run_sync(self._reads.db.prune, heights[-1]):
            await trio.lowlevel.checkpoint()
        await self._look_lowest()
        log.info("blocks below height %d are dropped, their headers stay", self.lowest_body)

    async def _look_lowest(self) -> None:
        lowest = await trio.to_thread.run_sync(self._reads.db.lowest_body)
        self.lowest_body = self._reads.chain.head.height + 1 if lowest is None else lowest
