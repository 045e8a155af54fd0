"""Blocks among the nodes: sealed headers by gossip, each body by stream after its header has passed.

A header is passed on as soon as it is valid as a header, so it runs ahead of the body, which every node
fetches from whom it heard of it. An early header is held until it is due, one that came before its parent
until the parent is here. What nobody gives is left to sync.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable

import trio

from chain.announced import Announced, Waiting
from chain.bodies import (
    Assembled,
    Bodies,
    Found,
    GaveUp,
    Lied,
    Wanted,
    body_of,
    likely_sources,
    without_body,
)
from chain.gossip import MAX_SEALS, Verdict, validate_sealed
from chain.header import SealedHeader
from chain.types import Block
from p2pml.net.bodies import BodyPump
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.node.chain_reads import ChainReads

log = logging.getLogger(__name__)

HEADERS = "headers"
_MAX_EARLY = 64
_SOON_SLOTS = 2

Take = Callable[[Block, str], None]
Missing = Callable[[str, bytes], None]


class Early:
    """Things to do when a block is due, if that is soon; bounded in number."""

    def __init__(self, reads: ChainReads) -> None:
        self._reads = reads
        self._held: set[bytes] = set()
        self._send, self._receive = trio.open_memory_channel[
            tuple[int, bytes, Callable[[], Awaitable[None]]]
        ](_MAX_EARLY)

    async def run(self) -> None:
        """Do them when they are due."""
        async with trio.open_nursery() as nursery:
            async for due_ms, key, action in self._receive:
                nursery.start_soon(self._later, due_ms, key, action)

    def hold(self, key: bytes, due_ms: int, action: Callable[[], Awaitable[None]]) -> bool:
        """Do `action` at `due_ms`; False if it is held already, is far off, or too many are held."""
        soon = due_ms - self._reads.clock_ms() <= _SOON_SLOTS * self._reads.genesis.params.slot_ms
        if key in self._held or len(self._held) >= _MAX_EARLY or not soon:
            return False
        self._held.add(key)
        self._send.send_nowait((due_ms, key, action))
        return True

    async def _later(self, due_ms: int, key: bytes, action: Callable[[], Awaitable[None]]) -> None:
        await self._reads.sleep_until(due_ms)
        self._held.discard(key)
        await action()


class BlockGossip:
    """Announces our blocks and gets those of others.

    Args:
        reads: the chain.
        host, gossip: running while this runs.
        early: holds what came before its time.
        take: gets each block whose header has passed and whose body is the one under it, and who sent it.
        missing: gets a peer and the id of a block that only sync can bring.
        rng: orders the peers to ask beyond the likely ones.
    """

    def __init__(
        self,
        reads: ChainReads,
        host: Host,
        gossip: Gossip,
        early: Early,
        take: Take,
        missing: Missing,
        rng: random.Random,
    ) -> None:
        self._reads, self._host, self._gossip, self._early = reads, host, gossip, early
        self._take, self._missing, self._rng = take, missing, rng
        self._announced, self._waiting = Announced(), Waiting()
        most = reads.genesis.params.max_body_bytes
        self._bodies = BodyPump(host, Bodies(most), most, self._lookup, self._came)

    async def run(self) -> None:
        """Take part until cancelled."""
        self._gossip.subscribe(HEADERS, self._judge, self._on_header)
        await self._bodies.run()

    async def publish(self, block: Block) -> None:
        """Announce a block that the chain has taken."""
        self._announced.add(block.sealed)
        await self._gossip.publish(HEADERS, block.sealed.encoded)

    def accepted(self, blocks: Iterable[Block]) -> None:
        """The chain has taken these blocks, however they came."""
        for block in blocks:
            self._bodies.tell(Found(block.block_id))
            for sealed, peer in self._waiting.release(block.block_id):
                self._early.hold(sealed.block_id, self._reads.clock_ms(), self._again(sealed, peer))
        self._bodies.arrived()

    def _judge(self, data: bytes) -> Verdict:
        checked = validate_sealed(data, self._reads.chain, self._announced, self._reads.clock_ms())
        if checked.verdict is Verdict.IGNORE and checked.item is not None:
            self._keep(checked.item, self._gossip.forwarder)
        return checked.verdict

    def _on_header(self, origin: str, data: bytes) -> None:
        self._fetch(SealedHeader.decode(data), self._gossip.forwarder, origin)

    def _fetch(self, sealed: SealedHeader, forwarder: str, origin: str) -> None:
        self._announced.add(sealed)
        block = without_body(sealed)
        if block is not None:
            self._take(block, forwarder)
            return
        connected = self._host.connected()
        self._rng.shuffle(connected)
        self._bodies.tell(Wanted(sealed, likely_sources(forwarder, origin, connected)))

    def _keep(self, sealed: SealedHeader, peer: str) -> None:
        """A header that came too early, or before its parent."""
        chain = self._reads.chain
        due_ms = chain.ready_at_ms(sealed)
        if due_ms > self._reads.clock_ms():
            self._early.hold(sealed.block_id, due_ms, self._again(sealed, peer))
        elif self._waiting.add(sealed, peer, MAX_SEALS):
            parent_comes = self._bodies.fetching(sealed.prev) or self._waiting.has(sealed.prev)
            if not parent_comes:
                self._missing(peer, sealed.prev)

    def _again(self, sealed: SealedHeader, peer: str) -> Callable[[], Awaitable[None]]:
        async def judge() -> None:
            reads = self._reads
            checked = validate_sealed(sealed.encoded, reads.chain, self._announced, reads.clock_ms())
            if checked.verdict is Verdict.ACCEPT:
                self._fetch(sealed, peer, peer)
                await self._gossip.publish(HEADERS, sealed.encoded)  # gossip did not pass it on before
            elif checked.item is not None:
                self._keep(sealed, peer)

        return judge

    async def _lookup(self, block_id: bytes) -> bytes | None:
        kept = self._reads.chain.block(block_id)
        if kept is not None:
            return body_of(kept.encoded, kept.sealed)
        return await trio.to_thread.run_sync(self._stored, block_id)

    def _stored(self, block_id: bytes) -> bytes | None:
        data = self._reads.db.block(block_id)
        return None if data is None else body_of(data, Block.decode(data).sealed)

    def _came(self, what: Assembled | Lied | GaveUp) -> None:
        match what:
            case Assembled(block, peer):
                self._take(block, peer)
            case Lied(peer, reason):
                log.warning("%s sent %s", peer, reason)
                self._gossip.blame(peer, reason)
            case GaveUp(block_id, asked):
                log.debug("nobody gave the body of %s", block_id.hex()[:16])
                for peer in asked[:1]:
                    self._missing(peer, block_id)
