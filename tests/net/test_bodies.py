"""Bodies between hosts: large ones, ones that the server has yet to get, and questions that are none."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import pytest
import trio

from chain.bodies import PROTOCOL, Assembled, Bodies, Found, GaveUp, Lied, Wanted, body_of
from chain.crypto import Keypair
from chain.genesis import Founder, Genesis
from chain.params import DEMO
from chain.producer import ProposerKeys, seal
from chain.state import genesis_state
from chain.transactions import Transfer, sign_tx
from chain.types import Block, Body
from p2pml.net.bodies import PER_PEER, BodyPump
from p2pml.net.errors import RemoteError
from p2pml.net.gossip import MAX_MESSAGE
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes
from p2pml.net.scores import Deed
from p2pml.net.streams import Stream

pytestmark = pytest.mark.slow

MOST = 2 * 1024 * 1024
KEYS = ProposerKeys.from_seeds(b"\x01" * 32, b"\x02" * 32)


def block_of(count: int) -> Block:
    founder = Founder(KEYS.public, KEYS.vrf_public, 10, "founder")
    genesis = Genesis("bodies", 0, DEMO, (founder,))
    one = sign_tx(
        Keypair.from_seed(b"\x03" * 32), genesis.chain_id, Transfer(KEYS.public, 1, "x" * 60), nonce=0,
        valid_until_slot=9, fee=1,
    )  # fmt: skip
    return seal(genesis_state(genesis), 1, 0, KEYS, Body(txs=(one,) * count))


async def keep_silent(stream: Stream) -> None:
    await trio.sleep_forever()


class Side:
    """A host with a pump, what it can give, and what its pump told."""

    def __init__(self, number: int) -> None:
        self.host = Host(bytes([number]) * 32)
        self.given: dict[bytes, bytes] = {}
        self.told: list[Assembled | Lied | GaveUp] = []
        self.pump = BodyPump(self.host, Bodies(MOST), MOST, self._lookup, self.told.append)

    async def _lookup(self, block_id: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.given.get(block_id)

    def has(self, block: Block) -> None:
        self.given[block.block_id] = body_of(block.encoded, block.sealed)
        self.pump.tell(Found(block.block_id))
        self.pump.arrived()

    async def start(self, nursery: trio.Nursery, *others: Side) -> None:
        await nursery.start(self.host.run)
        await nursery.start(self.pump.run)
        for other in others:
            await self.host.connect(other.host.addrs()[0])

    async def until_told(self) -> Assembled | Lied | GaveUp:
        with trio.fail_after(10):
            while not self.told:
                await trio.sleep(0.02)
        return self.told[0]


async def test_a_body_larger_than_any_gossip_message_is_fetched() -> None:
    block, server, asker = block_of(4000), Side(81), Side(82)
    size = len(block.encoded)
    assert size > MAX_MESSAGE
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        await asker.start(nursery, server)
        server.has(block)
        asker.host.report(server.host.peer_id, Deed.INVALID, "before")
        before = asker.host.standing.score(server.host.peer_id)
        asker.pump.tell(Wanted(block.sealed, (server.host.peer_id,)))
        assert await asker.until_told() == Assembled(block, server.host.peer_id)
        assert before - asker.host.standing.score(server.host.peer_id) >= size / 2**20  # it is to its credit
        nursery.cancel_scope.cancel()


async def test_who_asks_before_the_server_has_the_body_itself_waits_for_it() -> None:
    block, silent, server, asker = block_of(3), Side(83), Side(84), Side(85)
    async with trio.open_nursery() as nursery:
        await nursery.start(silent.host.run)
        silent.host.handle(PROTOCOL, keep_silent)
        await server.start(nursery, silent)
        await asker.start(nursery, server)
        server.pump.tell(Wanted(block.sealed, (silent.host.peer_id,)))
        asker.pump.tell(Wanted(block.sealed, (server.host.peer_id,)))
        await trio.sleep(0.5)
        assert asker.told == []
        server.has(block)
        assert await asker.until_told() == Assembled(block, server.host.peer_id)
        nursery.cancel_scope.cancel()


async def test_nothing_is_said_at_once_about_what_is_not_expected_and_too_much_is_refused() -> None:
    server, asker = Side(86), Side(87)
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        await asker.start(nursery, server)
        peer = server.host.peer_id
        assert await request_bytes(asker.host, peer, PROTOCOL, bytes(32), 2, 100) == b""
        for bad in (b"", bytes(31), bytes(33), bytes(1000)):
            with pytest.raises(RemoteError):
                await request_bytes(asker.host, peer, PROTOCOL, bad, 2, 100)
        block = block_of(1)
        server.pump.tell(Wanted(block.sealed, (asker.host.peer_id,)))
        asker.pump.tell(Wanted(block.sealed, (peer,)))  # each waits for the other
        answers: list[bytes] = []

        async def ask() -> None:
            try:
                answers.append(await request_bytes(asker.host, peer, PROTOCOL, block.block_id, 4, 100))
            except RemoteError:
                answers.append(b"refused")

        async with trio.open_nursery() as questions:
            for _ in range(PER_PEER + 3):
                questions.start_soon(ask)
        assert answers.count(b"refused") >= 3
        nursery.cancel_scope.cancel()
